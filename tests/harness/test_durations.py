"""Errors by the length of the clips."""

from __future__ import annotations

from edge_asr_deploy.harness.durations import by_duration
from edge_asr_deploy.harness.result import Row


def row(seconds: float, errors: int, words: int = 10) -> Row:
    return Row(
        id=str(seconds),
        source="corpus",
        seconds=seconds,
        reference="",
        hypothesis="",
        substitutions=errors,
        deletions=0,
        insertions=0,
        words=words,
        tokens=1,
        windows=1,
        runaway=False,
        empty=False,
        hit_length_cap=False,
    )


def test_a_clip_is_in_one_bucket_and_empty_buckets_are_left_out() -> None:
    found = by_duration([row(1.9, 1), row(2.0, 2), row(4.9, 4), row(30.0, 10)])
    assert {name: errors.utterances for name, errors in found.items()} == {
        "0 to 2 s": 1,
        "2 to 5 s": 2,
        "30 s and more": 1,
    }
    assert found["2 to 5 s"].wer == 6 / 20
    low, high = found["2 to 5 s"].interval
    assert low == 0.2 and high == 0.4


def test_longer_utterances_weigh_more() -> None:
    assert by_duration([row(1, 1, words=1), row(1.5, 0, words=9)])["0 to 2 s"].wer == 0.1


def test_no_rows_no_buckets() -> None:
    assert by_duration([]) == {}
