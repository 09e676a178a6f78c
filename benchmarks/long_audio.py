"""Long recordings with voice activity detection and without it: `python -m benchmarks.long_audio BUNDLE...`.

The recordings are those of `long_librispeech`, the same with pauses of 0.5 to 8 s between their utterances, and each
default evaluation set joined to one recording with pauses of 0.2 to 4 s. Prints word error rates, windows and time.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy import Transcriber, read_audio
from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.corpora.normalize import normalizer_for
from edge_asr_deploy.harness.evaluation.wer import count, pooled

RATE = 16_000
SETS = ("common_voice_en", "librispeech_test_other", "asterisk_prompts")
LONG = "more/long_librispeech.jsonl"
# Faint noise, as of a quiet room.
QUIET = 10 ** (-57 / 20)

Samples = NDArray[np.float32]


def recordings(data: Path) -> Iterator[tuple[str, Samples, str]]:
    """Name, samples and text of every recording."""
    generator = np.random.default_rng(5)

    def pause(least: float, most: float) -> Samples:
        length = int(RATE * generator.uniform(least, most))
        return (QUIET * generator.standard_normal(length)).astype(np.float32)

    for line in (data / LONG).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        samples = read_audio((data / LONG).parent / row["audio"])
        yield "long", samples, row["text"]
        spoken = (samples[int(start * RATE) : int(end * RATE)] for start, end, _ in row["segments"])
        yield "long, paused", np.concatenate([part for one in spoken for part in (one, pause(0.5, 8))]), row["text"]
    for name in SETS:
        utterances = read_manifest(data / f"{name}.jsonl")
        parts = [part for one in utterances for part in (one.samples(), pause(0.2, 4))]
        yield name, np.concatenate(parts), " ".join(one.text or "" for one in utterances)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with the manifests")
    parser.add_argument("--audio-context", default="auto")
    given = parser.parse_args()
    normalizer = normalizer_for("en")
    found = list(recordings(given.data))
    print(f"{sum(len(samples) for _, samples, _ in found) / RATE / 60:.1f} minutes")
    for bundle in given.bundles:
        for vad in (False, True):
            transcriber = Transcriber.open(bundle, threads=1, vad=vad, audio_context=given.audio_context)
            counts, seconds, windows = [], 0.0, 0
            by_name: dict[str, list[object]] = {}
            for name, samples, text in found:
                started = perf_counter()
                transcript = transcriber.transcribe(samples)
                seconds += perf_counter() - started
                windows += transcript.windows
                counts.append(count(normalizer(text), normalizer(transcript.text)))
                by_name.setdefault(name, []).append(counts[-1])
            sets = ", ".join(f"{name} {pooled(rows).wer:.2%}" for name, rows in by_name.items())  # type: ignore[arg-type]
            state = "on" if vad else "off"
            print(f"{bundle.name}, vad {state}: {pooled(counts).wer:.2%}, {windows} windows, {seconds:.1f} s; {sets}")


if __name__ == "__main__":
    main()
