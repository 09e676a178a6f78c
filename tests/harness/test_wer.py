"""WER is errors over reference words, pooled over utterances."""

from __future__ import annotations

import pytest

from edge_asr_deploy.harness.evaluation.wer import WordCounts, count, pooled


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a b c", WordCounts(0, 0, 0, 3)),
        ("a b c", "a x c", WordCounts(1, 0, 0, 3)),
        ("a b c", "a c", WordCounts(0, 1, 0, 3)),
        ("a b c", "a b b c", WordCounts(0, 0, 1, 3)),
        ("a b c", "", WordCounts(0, 3, 0, 3)),
        ("a", "a a a a", WordCounts(0, 0, 3, 1)),
    ],
)
def test_errors_by_kind(reference: str, hypothesis: str, expected: WordCounts) -> None:
    assert count(reference, hypothesis) == expected


def test_pooling_adds_errors_and_words_and_does_not_average_rates() -> None:
    total = pooled([count("a b c d e f g h i", "a b c d e f g h i"), count("a", "b")])
    assert total == WordCounts(1, 0, 0, 10)
    assert total.wer == pytest.approx(0.1)


def test_an_empty_reference_has_no_word_error_rate() -> None:
    with pytest.raises(ValueError, match="empty"):
        count("", "words")
