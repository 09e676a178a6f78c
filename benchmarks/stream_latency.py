"""End of speech to final text of two streams, ours beside moonshine-voice: `python -m benchmarks.stream_latency`.

Voice commands are played in real time, a tenth of a second at a time, and the stream is told when they end. The engines
take turns, clip by clip, each in a process of its own.

    python -m venv /some/venv && /some/venv/bin/pip install moonshine-voice==0.0.45
    python -m benchmarks.stream_latency BUNDLE --rival /some/venv/bin/python --model FOLDER --threads 1,2

FOLDER has the rival's model files (`tiny-en` in its wheel).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles

import numpy as np

from benchmarks.wyoming_latency import FIRST, commands
from edge_asr_deploy.corpora.normalize import normalizer_for
from edge_asr_deploy.harness.evaluation.wer import WordCounts, count, pooled

PLAYER = Path(__file__).with_name("stream_player.py")
RIVAL = "moonshine-voice"


class Engine:
    """A player process."""

    def __init__(self, name: str, words: list[str], threads: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.name = name
        self.process = subprocess.Popen(
            [*words, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def play(self, path: Path) -> tuple[float, str]:
        """Seconds from the end of speech to its text, and the text."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["seconds"], answer["text"]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--rival", type=Path, help="python of the environment of moonshine-voice")
    parser.add_argument("--model", type=Path, help="folder of its model files")
    parser.add_argument("--threads", default="1,2", help="threads, separated by commas")
    parser.add_argument("--number", type=int, default=20, help="commands")
    given = parser.parse_args()
    clips, normalize = commands(given.number), normalizer_for("en")
    print(f"{len(clips)} commands; load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    print("| engine | threads | p50, s | p90, s | WER, % | ours / rival, p50 |\n|---|---|---|---|---|---|")
    for threads in map(int, re.findall(r"\d+", given.threads)):
        sides = [(bundle.name, [sys.executable, str(PLAYER), "ours", str(bundle)]) for bundle in given.bundles]
        if given.rival:
            sides.append((RIVAL, [str(given.rival), str(PLAYER), RIVAL, str(given.model)]))
        times: dict[str, list[float]] = {}
        counts: dict[str, list[WordCounts]] = {}
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            engines = [stack.enter_context(Engine(name, words, threads)) for name, words in sides]
            for number, clip in enumerate([*clips[:FIRST], *clips]):
                path = folder / f"{number}.npy"
                np.save(path, clip.samples())
                for engine in engines:
                    seconds, text = engine.play(path)
                    if number >= FIRST:
                        times.setdefault(engine.name, []).append(seconds)
                        errors = count(normalize(clip.text or ""), normalize(text))
                        counts.setdefault(engine.name, []).append(errors)
        for name, found in times.items():
            share = f"{median(found) / median(times[RIVAL]):.2f}" if RIVAL in times and name != RIVAL else ""
            middle, high = median(found), quantiles(found, n=10)[-1]
            print(
                f"| {name} | {threads} | {middle:.3f} | {high:.3f} | {100 * pooled(counts[name]).wer:.1f} | {share} |"
            )


if __name__ == "__main__":
    main()
