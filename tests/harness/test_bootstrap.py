"""Intervals of WER by resampling utterances."""

from __future__ import annotations

import numpy as np
import pytest

from edge_asr_deploy.harness.evaluation.bootstrap import difference_interval, wer_interval


def test_an_interval_lies_around_the_rate_as_the_normal_approximation_says() -> None:
    generator = np.random.default_rng(1)
    words = np.full(400, 20)
    errors = generator.binomial(20, 0.1, size=400)
    low, high = wer_interval(errors.tolist(), words.tolist())
    rate = errors.sum() / words.sum()
    half = 1.96 * errors.std() / 20 / np.sqrt(400)
    assert low == pytest.approx(rate - half, abs=0.1 * half)
    assert high == pytest.approx(rate + half, abs=0.1 * half)


def test_pairing_cancels_what_is_hard_for_both() -> None:
    generator = np.random.default_rng(2)
    words = [10] * 200
    baseline = generator.integers(0, 10, size=200)
    errors = baseline + (np.arange(200) % 10 == 0)
    low, high = difference_interval(errors.tolist(), baseline.tolist(), words)
    assert 0 < low < 0.01 < high
    single_low, single_high = wer_interval(errors.tolist(), words)
    assert high - low < (single_high - single_low) / 4


def test_equal_systems_differ_by_exactly_nothing() -> None:
    assert difference_interval([1, 5, 0], [1, 5, 0], [7, 8, 9]) == (0.0, 0.0)


def test_one_utterance_gives_a_point() -> None:
    assert wer_interval([1], [4]) == (0.25, 0.25)


def test_the_seed_decides() -> None:
    errors, words = [0, 1, 2, 3, 9], [10, 11, 12, 13, 14]
    assert wer_interval(errors, words, seed=3) == wer_interval(errors, words, seed=3)
    assert wer_interval(errors, words, resamples=50, seed=3) != wer_interval(errors, words, resamples=50, seed=4)


def test_a_higher_confidence_is_wider() -> None:
    errors, words = list(range(20)), [30] * 20
    narrow, wide = wer_interval(errors, words, confidence=0.5), wer_interval(errors, words, confidence=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize(("errors", "words"), [([], []), ([1, 2], [3])])
def test_counts_must_match(errors: list[int], words: list[int]) -> None:
    with pytest.raises(ValueError, match="as many"):
        wer_interval(errors, words)
