"""Errors by the length of the clips."""

from __future__ import annotations

from edge_asr_deploy.harness.reporting.durations import by_duration
from tests.support.results import row


def test_a_clip_is_in_one_bucket_and_empty_buckets_are_left_out() -> None:
    found = by_duration([row(1, seconds=1.9), row(2, seconds=2), row(4, seconds=4.9), row(10, seconds=30)])
    assert {name: errors.utterances for name, errors in found.items()} == {
        "0 to 2 s": 1,
        "2 to 5 s": 2,
        "30 s and more": 1,
    }
    assert found["2 to 5 s"].wer == 6 / 20
    low, high = found["2 to 5 s"].interval
    assert low == 0.2 and high == 0.4


def test_longer_utterances_weigh_more() -> None:
    assert by_duration([row(1, seconds=1, words=1), row(0, seconds=1.5, words=9)])["0 to 2 s"].wer == 0.1


def test_no_rows_no_buckets() -> None:
    assert by_duration([]) == {}
