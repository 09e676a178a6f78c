"""Which utterances suffered most, and where in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asr_deploy.corpora.normalize import normalizer
from edge_asr_deploy.harness.evaluation.wer import count
from edge_asr_deploy.harness.reporting.differences import Span, align, worst
from tests.support.results import make_result

ENGLISH = normalizer("whisper-english")
TEXT = st.lists(st.sampled_from(["a", "b", "c"]), max_size=8).map(" ".join)


def test_the_three_kinds_of_errors() -> None:
    assert align("he opened the old door", "she opened old door now please") == [
        Span("substitute", "he", "she"),
        Span("equal", "opened", "opened"),
        Span("delete", "the", ""),
        Span("equal", "old door", "old door"),
        Span("insert", "", "now please"),
    ]


def test_nothing_said_and_nothing_heard() -> None:
    assert align("", "") == []
    assert align("", "hello there") == [Span("insert", "", "hello there")]
    assert align("hello", "") == [Span("delete", "hello", "")]


@given(TEXT.filter(bool), TEXT)
def test_both_texts_can_be_read_off_and_the_errors_are_those_that_were_counted(reference: str, hypothesis: str) -> None:
    spans = align(reference, hypothesis)
    assert " ".join(span.reference for span in spans if span.reference) == reference
    assert " ".join(span.hypothesis for span in spans if span.hypothesis) == hypothesis
    errors = sum(max(len(s.reference.split()), len(s.hypothesis.split())) for s in spans if s.kind != "equal")
    assert errors == count(reference, hypothesis).errors


def test_the_worst_come_first_and_what_is_no_worse_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hears = {"middle": "he opened the heavy door", "long": "or when we were gone"}
    result = make_result(tmp_path, monkeypatch, hears)
    found = worst(result, ENGLISH, 5)
    assert [(difference.bundle.row.id, difference.more) for difference in found] == [("long", 4), ("middle", 1)]
    assert [span.kind for span in found[0].bundle.spans] == ["substitute", "equal"]
    assert found[0].baseline and [span.kind for span in found[0].baseline.spans] == ["equal"]
    assert len(worst(result, ENGLISH, 1)) == 1


def test_what_the_baseline_gets_wrong_too_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = make_result(tmp_path, monkeypatch, {"long": "gone"})
    assert result.baseline
    same = result.model_copy(
        update={"baseline": result.baseline.model_copy(update={"accuracy": result.bundle.accuracy})}
    )
    assert len(worst(result, ENGLISH, 5)) == 1
    assert worst(same, ENGLISH, 5) == []
    alone = result.model_copy(update={"baseline": None, "comparison": None})
    assert [difference.more for difference in worst(alone, ENGLISH, 5)] == [4]
