"""Long recordings with voice activity detection and without it: `python -m benchmarks.long_audio BUNDLE...`.

The recordings are those of `long_librispeech`, the same with pauses of 0.5 to 8 s between their utterances, and each
default evaluation set joined to one recording with pauses of 0.2 to 4 s. Prints word error rates, windows and time; for
comparison also those of the utterances one by one, cut where their text says.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy import Transcriber, read_audio
from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.corpora.normalize import normalizer_for
from edge_asr_deploy.harness.evaluation.wer import WordCounts, count, pooled

RATE = 16_000
SETS = ("common_voice_en", "librispeech_test_other", "asterisk_prompts")
LONG = "more/long_librispeech.jsonl"
# Faint noise, as of a quiet room.
QUIET = 10 ** (-57 / 20)

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Recording:
    """Samples (n,), their text, and the samples of each utterance in them."""

    name: str
    samples: Samples
    text: str
    utterances: list[Samples]


def recordings(data: Path) -> Iterator[Recording]:
    """Every recording."""
    generator = np.random.default_rng(5)

    def pause(least: float, most: float) -> Samples:
        length = int(RATE * generator.uniform(least, most))
        return (QUIET * generator.standard_normal(length)).astype(np.float32)

    for line in (data / LONG).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        samples = read_audio((data / LONG).parent / row["audio"])
        spoken = [samples[int(start * RATE) : int(end * RATE)] for start, end, _ in row["segments"]]
        yield Recording("long", samples, row["text"], spoken)
        paused = np.concatenate([part for one in spoken for part in (one, pause(0.5, 8))])
        yield Recording("long, paused", paused, row["text"], spoken)
    for name in SETS:
        utterances = read_manifest(data / f"{name}.jsonl")
        spoken = [one.samples() for one in utterances]
        joined = np.concatenate([part for one in spoken for part in (one, pause(0.2, 4))])
        yield Recording(name, joined, " ".join(one.text or "" for one in utterances), spoken)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with the manifests")
    parser.add_argument("--audio-context", default="auto")
    given = parser.parse_args()
    normalizer = normalizer_for("en")
    found = list(recordings(given.data))
    print(f"{sum(len(one.samples) for one in found) / RATE / 60:.1f} minutes")
    for bundle in given.bundles:
        for rule in ("vad off", "vad on", "utterances"):
            transcriber = Transcriber.open(bundle, threads=1, vad=rule != "vad off", audio_context=given.audio_context)
            counts: dict[str, list[WordCounts]] = {}
            seconds, windows = 0.0, 0
            for one in found:
                started = perf_counter()
                parts = one.utterances if rule == "utterances" else [one.samples]
                transcripts = [transcriber.transcribe(part) for part in parts]
                seconds += perf_counter() - started
                windows += sum(transcript.windows for transcript in transcripts)
                text = normalizer(" ".join(transcript.text for transcript in transcripts))
                counts.setdefault(one.name, []).append(count(normalizer(one.text), text))
            sets = ", ".join(f"{name} {pooled(rows).wer:.2%}" for name, rows in counts.items())
            total = pooled(row for rows in counts.values() for row in rows).wer
            print(f"{bundle.name}, {rule}: {total:.2%}, {windows} windows, {seconds:.1f} s; {sets}", flush=True)


if __name__ == "__main__":
    main()
