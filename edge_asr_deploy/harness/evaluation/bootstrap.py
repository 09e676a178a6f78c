"""Bootstrap intervals of word error rates, by resampling utterances (Bisani and Ney, ICASSP 2004)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
# Resamples drawn at once. With some thousand utterances, a block takes a few tens of MB.
BLOCK = 500


def wer_interval(
    errors: Sequence[int], words: Sequence[int], confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the pooled WER (a fraction) of utterances with these error and reference word counts."""
    return difference_interval(errors, np.zeros_like(errors), words, confidence, resamples, seed)


def difference_interval(
    errors: Sequence[int],
    baseline: Sequence[int] | NDArray[np.int64],
    words: Sequence[int],
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of WER minus the baseline's WER (fractions) on the same utterances.

    The bootstrap is paired: each resample draws the same utterances for both systems, so that utterances which are hard
    for both cancel. The three sequences have one entry per utterance, in the same order. ValueError when they are empty
    or differ in length.
    """
    extra = np.asarray(errors) - np.asarray(baseline)
    return difference_intervals(extra[None], words, confidence, resamples, seed)[0]


def difference_intervals(
    extra: NDArray[np.int64],
    words: Sequence[int],
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[tuple[float, float]]:
    """`difference_interval` for many pairs of systems on the same utterances, in about the time of one pair.

    `extra`, shape (pairs, utterances): word errors minus the baseline's. ValueError as in `difference_interval`.
    """
    length = np.asarray(words)
    if length.size == 0 or extra.shape[1:] != length.shape:
        raise ValueError(f"need as many error counts as word counts, and at least one: {extra.shape}, {length.shape}")
    drawn = np.concatenate(
        [draws @ extra.T / (draws @ length)[:, None] for draws in _draws(length.size, resamples, seed)]
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return [(float(lower), float(upper)) for lower, upper in zip(low, high, strict=True)]


def _draws(utterances: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each utterance was drawn in each resample: blocks of shape (resamples in block, utterances)."""
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, BLOCK):
        size = min(BLOCK, resamples - start)
        yield generator.multinomial(utterances, np.full(utterances, 1 / utterances), size=size)
