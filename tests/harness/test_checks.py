"""The gate's verdicts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr_deploy.harness.evaluation.result import Accuracy, WordErrors
from edge_asr_deploy.harness.gate import checks
from edge_asr_deploy.harness.gate.relative_speed import Ratio
from edge_asr_deploy.harness.gate.report import BundleReport, Check, Report
from tests.support.results import row


def accuracy(errors: list[int], words: int = 10) -> Accuracy:
    rows = [row(count, id=str(number), words=words) for number, count in enumerate(errors)]
    pooled = WordErrors(
        wer=sum(errors) / (words * len(errors)),
        interval=(0, 0),
        substitutions=sum(errors),
        deletions=0,
        insertions=0,
        words=words * len(errors),
        utterances=len(errors),
    )
    return Accuracy(pooled=pooled, by_corpus={}, runaway=0, empty=0, hit_length_cap=0, rows=rows)


def test_the_same_errors_pass() -> None:
    assert checks.check_wer(accuracy([1] * 40), accuracy([1] * 40), 0, 0).verdict == "passed"


def test_a_rise_all_over_fails() -> None:
    check = checks.check_wer(accuracy([2] * 40), accuracy([1] * 40), 0.01, 0.1)
    assert (check.verdict, check.measured, check.limit) == ("failed", "+10.00%", "+1.00%")


def test_the_larger_of_the_two_tolerances_counts() -> None:
    ours, recorded = accuracy([6] * 40), accuracy([5] * 40)
    assert checks.check_wer(ours, recorded, 0.01, 0.1).verdict == "failed"
    assert checks.check_wer(ours, recorded, 0.01, 0.3).verdict == "passed"
    assert checks.check_wer(ours, recorded, 0.2, 0.1).verdict == "passed"


def test_a_rise_that_may_be_chance_is_neither_passed_nor_failed() -> None:
    ours = accuracy([5, 0, 4, *[1] * 7])
    check = checks.check_wer(ours, accuracy([1] * 10), 0.01, 0.1)
    assert check.verdict == "not measured"
    assert "--number" in check.note


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), min_size=1, max_size=30))
def test_fewer_errors_always_pass(pairs: list[tuple[int, int]]) -> None:
    low, high = [min(pair) for pair in pairs], [max(pair) for pair in pairs]
    assert checks.check_wer(accuracy(low), accuracy(high), 0, 0).verdict == "passed"


def test_a_limit_far_above_the_noise_is_pointed_out() -> None:
    same = accuracy([1] * 40)
    assert checks.check_wer(same, same, 0.01, 0.1).slack == ""
    # Two of 400 words are noise; the suggestion leaves room for twice that.
    assert checks.check_wer(same, same, 0.05, 0.1).slack == "limit could be +1.00%"
    assert checks.check_size(100_000, 100_000, 0.01).slack == ""
    assert checks.check_size(100_000, 100_000, 0.5).slack == "limit could be 0.101 MB"


@pytest.mark.parametrize(("value", "verdict"), [(0.5, "passed"), (0.55, "passed"), (0.56, "failed")])
def test_speed_is_judged_by_the_median(value: float, verdict: str) -> None:
    check = checks.check_speed("step", Ratio(value, value - 0.01, value + 0.01, 11), 0.55)
    assert (check.name, check.verdict) == ("speed-step", verdict)


@pytest.mark.parametrize(
    ("differing", "tolerance", "verdict"), [(0, 0, "passed"), (1, 0, "failed"), (1, 0.5, "passed")]
)
def test_tokens_may_differ_in_a_share_of_the_clips(differing: int, tolerance: float, verdict: str) -> None:
    found = ["9"] * differing + ["1"] * (2 - differing)
    check = checks.check_tokens(found, ["1", "1"], ["first", "second"], tolerance)
    assert check.verdict == verdict
    assert check.note == ("first" if differing else "")


def test_a_missing_kernel_fails_and_a_surplus_does_not() -> None:
    assert checks.check_kernels({"a": 3, "b": 9}, {"a": 3, "b": 5}).verdict == "passed"
    check = checks.check_kernels({"a": 1, "b": 9}, {"a": 3, "b": 5})
    assert (check.verdict, check.note) == ("failed", "a: 2 integer matrices run in float")


def test_a_new_file_is_a_difference_under_any_onnxruntime() -> None:
    found = {"encoder.onnx": {"Add": 1}, "again.onnx": {"Add": 1}}
    assert checks.check_operators(found, {"encoder.onnx": {"Add": 1}}, is_same_software=False).verdict == "failed"


def test_only_what_is_allowed_may_stay_unmeasured() -> None:
    unmeasured, failed = checks.not_measured("wer", "why"), Check(name="wer", verdict="failed")
    for found, allowed, passed in (
        (unmeasured, [], False),
        (unmeasured, ["wer"], True),
        (failed, ["wer"], False),
        (Check(name="wer", verdict="passed"), [], True),
    ):
        report = Report(allowed=allowed, bundles=[BundleReport(bundle="b", baseline="r", checks=[found])])
        assert report.passed is passed
