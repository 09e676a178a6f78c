"""What times cost: `python -m benchmarks.times_cost BUNDLE... --data FOLDER`.

Every recording is transcribed without times, with segments and with words, in turn, several times. Prints the processor
time of each relative to that without times: for each recording the least of its runs, summed over all recordings.

On a busy machine that is within several percent only. --parts prints instead, for segments, the share of the rest of
the time that is spent in what only times need (the least of the runs): probabilities and queries of each token, the
path through the attention with words and segments. It leaves out the few microseconds a step for fetching the queries.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy import Transcriber, read_audio
from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.runtime.decoding.recording import Recorder
from edge_asr_deploy.runtime.times.details import Details

LONG = "more/long_librispeech.jsonl"
KINDS = (None, "segment", "word")
PARTS = ((Recorder, "begin"), (Recorder, "step"), (Recorder, "recorded"), (Details, "segments"))


def recordings(data: Path, clips: int) -> dict[str, list[NDArray[np.float32]]]:
    """Clips of LibriSpeech, and the recording of several minutes."""
    utterances = read_manifest(data / "librispeech_test_clean.jsonl")
    row = json.loads((data / LONG).read_text(encoding="utf-8").splitlines()[0])
    long = read_audio((data / LONG).parent / row["audio"])
    step = max(1, len(utterances) // clips)
    return {f"{clips} clips": [one.samples() for one in utterances[::step][:clips]], "long": [long]}


def times(transcriber: Transcriber, recording: NDArray[np.float32], repeats: int) -> list[float]:
    """The least processor time of each kind of times."""
    least = [float("inf")] * len(KINDS)
    for _ in range(repeats):
        for index, kind in enumerate(KINDS):
            started = process_time()
            transcriber.transcribe(recording, timestamps=kind)
            least[index] = min(least[index], process_time() - started)
    return least


@contextmanager
def timed(owner: type, name: str, spent: dict[str, float]) -> Iterator[None]:
    """Add the processor time of a method to `spent`, until the end of the block."""
    method: Callable[..., Any] = getattr(owner, name)

    def measured(*given: Any, **keywords: Any) -> Any:
        started = process_time()
        try:
            return method(*given, **keywords)
        finally:
            spent[name] = spent.get(name, 0.0) + process_time() - started

    setattr(owner, name, measured)
    try:
        yield
    finally:
        setattr(owner, name, method)


def parts(transcriber: Transcriber, found: Sequence[NDArray[np.float32]], repeats: int) -> str:
    """The share of each part in the rest of the time."""
    least = dict.fromkeys((name for _, name in PARTS), 0.0)
    rest = 0.0
    for recording in found:
        runs = []
        for _ in range(repeats):
            spent: dict[str, float] = {}
            with ExitStack() as stack:
                for owner, name in PARTS:
                    stack.enter_context(timed(owner, name, spent))
                started = process_time()
                transcriber.transcribe(recording, timestamps="segment")
                runs.append({**spent, "rest": process_time() - started - sum(spent.values())})
        least = {name: least[name] + min(run[name] for run in runs) for name in least}
        rest += min(run["rest"] for run in runs)
    shares = ", ".join(f"{name} {seconds / rest:.2%}" for name, seconds in least.items())
    return f"{shares}; all {sum(least.values()) / rest:.2%}"


def main() -> None:
    """Print a row for each bundle and kind of recording."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with the manifests")
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--parts", action="store_true", help="shares of what only times need")
    given = parser.parse_args()
    for bundle in given.bundles:
        transcriber = Transcriber.open(bundle, threads=1)
        for name, found in recordings(given.data, given.clips).items():
            if given.parts:
                print(f"{bundle.name}, {name}: {parts(transcriber, found, given.repeats)}", flush=True)
                continue
            plain, segment, word = np.sum([times(transcriber, one, given.repeats) for one in found], axis=0)
            row = f"segments {segment / plain:.4f}, words {word / plain:.4f}"
            print(f"{bundle.name}, {name}: {plain:.2f} s; {row}", flush=True)


if __name__ == "__main__":
    main()
