"""Hours of speech in one stream: `python -m benchmarks.long_stream BUNDLE --data FOLDER --minutes 60`.

Recordings of the default evaluation sets follow each other, with pauses of 1 s, over and over, as fast as the processor
takes them. Prints memory every five minutes of audio, its slope, and how the stream keeps up: audio seconds for each
second of one thread, and the longest single push of a tenth of a second.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from time import perf_counter

import numpy as np
import psutil
from numpy.typing import NDArray

from edge_asr_deploy import Transcriber
from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.runtime.live.events import Final

RATE, BLOCK = 16_000, 1_600
SETS = ("librispeech_test_clean", "common_voice_en", "asterisk_prompts", "librispeech_test_other")


def speech(data: Path) -> Iterator[NDArray[np.float32]]:
    """Blocks of a tenth of a second, without end."""
    quiet = (1e-4 * np.random.default_rng(0).normal(size=RATE)).astype(np.float32)
    utterances = [one for name in SETS for one in read_manifest(data / f"{name}.jsonl")]
    for utterance in cycle(utterances):
        samples = np.concatenate([utterance.samples(), quiet])
        yield from (samples[index : index + BLOCK] for index in range(0, len(samples), BLOCK))


def main() -> None:
    """Print a line every five minutes of audio, and a summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with the manifests")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    stream = Transcriber.open(given.bundle, threads=given.threads).stream()
    process, played, busy, longest, finals = psutil.Process(), 0.0, 0.0, 0.0, 0
    memory: list[tuple[float, float]] = []
    for block in speech(given.data):
        started = perf_counter()
        finals += sum(isinstance(event, Final) for event in stream.push(block))
        spent = perf_counter() - started
        busy, longest, played = busy + spent, max(longest, spent), played + len(block) / RATE
        if played >= 300 * (len(memory) + 1):
            memory.append((played / 60, process.memory_info().rss / 1e6))
            print(f"{played / 60:.0f} min: {memory[-1][1]:.1f} MB, {played / busy:.1f} s of audio a second", flush=True)
        if played >= 60 * given.minutes:
            break
    # The first minutes fill what is allocated when it is first needed.
    minutes, sizes = np.array(memory[1:]).T if len(memory) > 2 else (np.zeros(2), np.zeros(2))
    slope = float(np.polyfit(minutes, sizes, 1)[0]) if len(memory) > 2 else float("nan")
    print(f"{given.bundle.name}: {played / 60:.0f} min, {finals} texts, {slope:+.3f} MB a minute, ", end="")
    print(f"{played / busy:.1f} s of audio a second, longest push {longest:.2f} s")


if __name__ == "__main__":
    main()
