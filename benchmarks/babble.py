"""Voices in the background: `python -m benchmarks.babble FLOAT BUNDLE... --store FOLDER [--decibels 5]`.

The clips are the default evaluation speech. To each are added the voices of `--voices` calibration speakers at once,
who are none of those that are judged, so that the clip is `--decibels` louder than they are; `clean` adds nothing. Draw
and places are fixed by the clip's number. Prints Markdown: word error rates of the first bundle, the rise of the others
with a paired bootstrap interval, and errors by kind. What was heard is kept in `--store`, bundle by bundle.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from benchmarks.heard import KINDS, RATE, Errors, Listener, Samples, arguments, by_set, kinds, table
from edge_asr_deploy.corpora.defaults import CALIBRATION, EVALUATION
from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.corpora.normalize import normalizer_for
from edge_asr_deploy.corpora.utterance import Utterance

VOICES = 6
# Louder samples than these would be clipped by any recorder.
FULL = 0.99


def babble(voices: Sequence[Samples], length: int, number: int, generator: np.random.Generator) -> Samples:
    """`number` of the voices at once, equally loud, each from a place of its own; (length,) with a power of 1."""
    mixed = np.zeros(length)
    for index in generator.choice(len(voices), number, replace=False):
        voice = voices[index] / _loudness(voices[index])
        mixed += np.resize(np.roll(voice, -int(generator.integers(len(voice)))), length)
    return (mixed / _loudness(mixed)).astype(np.float32)


def mixed(samples: Samples, noise: Samples, decibels: float) -> Samples:
    """Speech that is so many decibels louder than the noise, over the whole clip; quieter if it would clip."""
    sum_ = samples + noise * (_loudness(samples) / _loudness(noise) * 10 ** (-decibels / 20))
    return (sum_ * min(1.0, FULL / float(np.abs(sum_).max()))).astype(np.float32)


def noisy(utterances: Sequence[Utterance], voices: Sequence[Samples], decibels: float, number: int) -> list[Samples]:
    """Every clip with babble of its own."""
    made = []
    for index, utterance in enumerate(utterances):
        samples = utterance.samples()
        made.append(mixed(samples, babble(voices, len(samples), number, np.random.default_rng(index)), decibels))
    return made


def main() -> None:
    """Print the tables of the bundles named on the command line."""
    parser = arguments(__doc__)
    parser.add_argument("--decibels", nargs="+", default=["5"], help="numbers, or `clean`")
    parser.add_argument("--voices", type=int, default=VOICES)
    parser.add_argument("--limit", type=int, help="at most so many clips of each set")
    given = parser.parse_args()
    utterances = [one for name in EVALUATION for one in read_manifest(given.data / f"{name}.jsonl")[: given.limit]]
    voices = [one.samples() for one in read_manifest(given.data / f"{CALIBRATION}.jsonl")]
    hours = sum(len(one.samples()) for one in utterances) / RATE / 3600
    normalizer = normalizer_for("en")
    print(f"{hours * 60:.1f} minutes, {len(utterances)} clips, {given.voices} voices")
    for level in given.decibels:
        clips = (
            [one.samples() for one in utterances]
            if level == "clean"
            else noisy(utterances, voices, float(level), given.voices)
        )
        found: dict[str, Sequence[Errors]] = {}
        for bundle in given.bundles:
            listener = Listener(bundle, given.store)
            heard = [listener.hear(clip) for clip in clips]
            found[listener.name] = [
                Errors.of(normalizer(one.text or ""), normalizer(said.text), said)
                for one, said in zip(utterances, heard, strict=True)
            ]
            print(f"{listener.name}, {level}: heard", file=sys.stderr, flush=True)
        print(f"\n{_report(found, utterances, level, hours)}", flush=True)


def _report(found: dict[str, Sequence[Errors]], utterances: Sequence[Utterance], level: str, hours: float) -> str:
    rates = by_set([one.source for one in utterances], found)
    by_kind = table(KINDS, [kinds(bundle, errors, hours) for bundle, errors in found.items()])
    title = "Clean" if level == "clean" else f"{level} dB"
    return f"{title}:\n\n{rates}\n\n{by_kind}"


def _loudness(samples: Samples | np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) or 1.0


if __name__ == "__main__":
    main()
