"""Word error rates of streams beside those of files: `python -m benchmarks.streamed_wer BUNDLE... --data FOLDER`.

Every recording of the named set is pushed into a stream a tenth of a second at a time, as fast as the processor takes
it, with a pause behind it or without one; and it is transcribed as a file. Prints both word error rates, the number of
partial texts, and how often a later text took back what was stable.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy import Transcriber
from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.corpora.normalize import normalizer_for
from edge_asr_deploy.harness.evaluation.wer import WordCounts, count, pooled
from edge_asr_deploy.runtime.live.events import Final, Partial

RATE, BLOCK = 16_000, 1_600
# Faint noise, as of a quiet room.
QUIET = 10 ** (-57 / 20)


@dataclass
class Streamed:
    """The text of a stream, and of its partial texts: how many there were, and how many stable ones did not stay."""

    text: str = ""
    partials: int = 0
    broken: int = 0


def streamed(transcriber: Transcriber, samples: NDArray[np.float32], only_stable: bool) -> Streamed:
    """Push samples (n,) in blocks."""
    stream, found, stable = transcriber.stream(only_stable=only_stable), Streamed(), ""
    pushed = [event for at in range(0, len(samples), BLOCK) for event in stream.push(samples[at : at + BLOCK])]
    for event in [*pushed, *stream.finish()]:
        if isinstance(event, Partial):
            found.partials += 1
            found.broken += not event.stable.startswith(stable)
            stable = event.stable
        elif isinstance(event, Final):
            found.broken += not event.segment.text.startswith(stable)
            found.text, stable = f"{found.text} {event.segment.text}".strip(), ""
    return found


def main() -> None:
    """Print a row for each bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with the manifests")
    parser.add_argument("--set", default="librispeech_test_clean", help="name of a manifest")
    parser.add_argument("--longest", type=float, default=1e9, help="leave out longer recordings, in seconds")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of near silence behind each recording")
    parser.add_argument("--only-stable", action="store_true", help="as `serve` does: no text that cannot be stable")
    given = parser.parse_args()
    normalize, generator = normalizer_for("en"), np.random.default_rng(0)
    utterances = [one for one in read_manifest(given.data / f"{given.set}.jsonl") if one.text]
    print("| bundle | recordings | streamed | whole | partial texts | stable texts taken back |")
    print("|---|---|---|---|---|---|")
    for bundle in given.bundles:
        transcriber = Transcriber.open(bundle, threads=1)
        live, whole, partials, broken = list[WordCounts](), list[WordCounts](), 0, 0
        for utterance in utterances:
            samples = utterance.samples()
            if len(samples) > given.longest * RATE:
                continue
            quiet = QUIET * generator.standard_normal(int(given.pause * RATE))
            samples = np.concatenate([samples, quiet.astype(np.float32)])
            reference = normalize(utterance.text or "")
            found = streamed(transcriber, samples, given.only_stable)
            live.append(count(reference, normalize(found.text)))
            whole.append(count(reference, normalize(transcriber.transcribe(samples).text)))
            partials, broken = partials + found.partials, broken + found.broken
        rates = f"{pooled(live).wer:.2%} | {pooled(whole).wer:.2%}"
        print(f"| {bundle.name} | {len(live)} | {rates} | {partials} | {broken} |", flush=True)


if __name__ == "__main__":
    main()
