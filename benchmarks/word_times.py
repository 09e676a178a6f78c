"""Word times beside faster-whisper: `python -m benchmarks.word_times BUNDLE... [--rival PYTHON CHECKPOINT]`.

Speech is `more/words_timing` of `EDGE_ASR_DATA`, whose words have times made by hand or by a forced aligner. Words that
were heard right are compared: start and end against the reference. CHECKPOINT is a CTranslate2 folder of the same
weights, and PYTHON an interpreter where faster-whisper is installed; it is heard in int8 and in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MANIFEST = Path(os.environ.get("EDGE_ASR_DATA", ".")) / "more" / "words_timing.jsonl"
NEAR = 0.1
RIVAL_KINDS = ("int8", "float32")
# Run by the rival's interpreter: a model's folder, a kind and audio files to a JSON list of words for each.
RIVAL = """
import json, sys
from faster_whisper import WhisperModel
folder, kind, *paths = sys.argv[1:]
model = WhisperModel(folder, device="cpu", compute_type=kind, cpu_threads=1)
for path in paths:
    segments, _ = model.transcribe(path, language="en", beam_size=1, temperature=0.0, word_timestamps=True,
                                   condition_on_previous_text=False)
    print(json.dumps([[word.start, word.end, word.word] for segment in segments for word in segment.words]))
"""


@dataclass(frozen=True)
class Timed:
    """A word and its times in seconds."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Clip:
    """A recording whose words have times."""

    path: Path
    words: tuple[Timed, ...]

    @property
    def samples(self) -> NDArray[np.float32]:
        """16 kHz, mono."""
        from edge_asr_deploy.runtime.audio.reading import read_audio

        return read_audio(self.path)


def clips(manifest: Path) -> list[Clip]:
    """The clips of a manifest."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    return [Clip(manifest.parent / row["audio"], tuple(Timed(*word) for word in row["words"])) for row in rows]


def differences(reference: Iterable[Timed], heard: Iterable[Timed]) -> NDArray[np.float64]:
    """How late the starts and ends of words are that both have, in seconds: (words, 2)."""
    wanted, got = ([word for word in words if _plain(word.text)] for words in (reference, heard))
    matcher = SequenceMatcher(
        None, [_plain(word.text) for word in wanted], [_plain(word.text) for word in got], autojunk=False
    )
    pairs = [
        (wanted[block.a + step], got[block.b + step])
        for block in matcher.get_matching_blocks()
        for step in range(block.size)
    ]
    return np.array([(b.start - a.start, b.end - a.end) for a, b in pairs]).reshape(-1, 2)


def ours(bundle: str, speech: Sequence[Clip]) -> list[list[Timed]]:
    """What a bundle hears."""
    from edge_asr_deploy.runtime.transcriber import Transcriber

    transcriber = Transcriber.open(bundle, threads=1)
    heard = [transcriber.transcribe(clip.path, timestamps="word") for clip in speech]
    return [[Timed(w.start, w.end, w.text) for segment in one.segments for w in segment.words] for one in heard]


def rival(python: str, folder: str, kind: str, speech: Sequence[Clip]) -> list[list[Timed]]:
    """What faster-whisper hears."""
    command = [python, "-c", RIVAL, folder, kind, *(str(clip.path) for clip in speech)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return [[Timed(*word) for word in json.loads(line)] for line in ran.stdout.splitlines()]


def row(name: str, speech: Sequence[Clip], heard: Sequence[Sequence[Timed]]) -> str:
    """A row of a Markdown table."""
    off = np.concatenate([differences(clip.words, words) for clip, words in zip(speech, heard, strict=True)])
    total = sum(len(clip.words) for clip in speech)
    cells = [name, f"{len(off)} of {total}"]
    for kind in (off[:, 0], off[:, 1], off):
        cells += [f"{1000 * np.abs(kind).mean():.0f} ms", f"{100 * np.mean(np.abs(kind) <= NEAR):.1f} %"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print a table of all that is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs="+")
    parser.add_argument("--rival", nargs=2, metavar=("PYTHON", "CHECKPOINT"))
    parser.add_argument("--data", type=Path, default=MANIFEST)
    given = parser.parse_args()
    speech = clips(given.data)
    print("| | words | start | <= 100 ms | end | <= 100 ms | both | <= 100 ms |\n|---|---|---|---|---|---|---|---|")
    for bundle in given.bundles:
        print(row(Path(bundle).name, speech, ours(bundle, speech)))
    for kind in RIVAL_KINDS if given.rival else ():
        print(row(f"faster-whisper {kind}", speech, rival(given.rival[0], given.rival[1], kind, speech)))
    sys.stdout.flush()


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())


if __name__ == "__main__":
    main()
