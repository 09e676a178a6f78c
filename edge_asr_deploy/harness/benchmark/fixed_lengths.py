"""Clips of fixed lengths, cut and joined from a corpus by a fixed rule."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.corpora.utterance import SAMPLE_RATE, Utterance
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.benchmark.result import FixedLength, Piece

# A word, a command, a sentence, one full window, several windows.
LENGTHS = (1.5, 3.0, 10.0, 30.0, 75.0)
RULE = (
    "of the utterances that are long enough the shortest, cut; where none is, utterances of the corpus with most "
    "speech in order of their ids, joined and cut, from the start again when they end"
)


def fixed_lengths(
    utterances: Sequence[Utterance], lengths: Sequence[float] = LENGTHS
) -> list[tuple[Utterance, FixedLength]]:
    """One clip of each length, made by `RULE`, with the record of its origin. UserError when there is no sound."""
    ordered = sorted(utterances, key=lambda utterance: (_seconds(utterance), utterance.source, utterance.id))
    return [_fixed_length(ordered, seconds) for seconds in lengths]


def _fixed_length(ordered: Sequence[Utterance], seconds: float) -> tuple[Utterance, FixedLength]:
    wanted = round(seconds * SAMPLE_RATE)
    samples, pieces = _cut(ordered, wanted) or _joined(ordered, wanted)
    name = f"{str(float(seconds)).removesuffix('.0')} s"
    utterance = Utterance(name, samples, None, "bench", seconds=seconds)
    return utterance, FixedLength(name=name, seconds=seconds, fingerprint=utterance.fingerprint(), pieces=pieces)


def _cut(ordered: Sequence[Utterance], wanted: int) -> tuple[NDArray[np.float32], list[Piece]] | None:
    for utterance in ordered:
        # n / 16000 * 16000 may be slightly below n, hence `round`.
        if round(_seconds(utterance) * SAMPLE_RATE) < wanted:
            continue
        # A manifest's duration may be wrong or rounded, so the samples decide.
        samples = utterance.samples()
        if len(samples) >= wanted:
            return samples[:wanted], [_piece(utterance, wanted)]
    return None


def _joined(ordered: Sequence[Utterance], wanted: int) -> tuple[NDArray[np.float32], list[Piece]]:
    corpora: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in ordered:
        corpora[utterance.source].append(utterance)
    largest = max(corpora, key=lambda source: (sum(map(_seconds, corpora[source])), source))
    parts, pieces, missing = [], [], wanted
    for utterance, samples in _endless(sorted(corpora[largest], key=lambda utterance: utterance.id)):
        part = samples[:missing]
        parts.append(part)
        pieces.append(_piece(utterance, len(part)))
        missing -= len(part)
        if not missing:
            break
    return np.concatenate(parts), pieces


def _endless(utterances: Sequence[Utterance]) -> Iterator[tuple[Utterance, NDArray[np.float32]]]:
    samples_so_far = 0
    for index, utterance in enumerate(cycle(utterances)):
        samples = utterance.samples()
        samples_so_far += len(samples)
        if index >= len(utterances) and not samples_so_far:
            raise UserError("--data", f"{len(utterances)} utterances", "all of them are empty; give other speech")
        yield utterance, samples


def _seconds(utterance: Utterance) -> float:
    return len(utterance.samples()) / SAMPLE_RATE if utterance.seconds is None else utterance.seconds


def _piece(utterance: Utterance, samples: int) -> Piece:
    return Piece(source=utterance.source, id=utterance.id, seconds=samples / SAMPLE_RATE)
