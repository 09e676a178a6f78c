"""Ratios of processor times: what shifts them, and what does not."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from edge_asr_deploy.harness.gate import relative_speed
from edge_asr_deploy.harness.gate.checks import check_speed
from edge_asr_deploy.harness.gate.load import Load, LoadMeter
from edge_asr_deploy.harness.gate.relative_speed import (
    DISTURBED,
    FAILING_OPENINGS,
    MOST_OPENINGS,
    PASSING_OPENINGS,
    RECORD_OPENINGS,
    Calls,
    Ratio,
    Sample,
    measure_ratios,
    ratio_of,
    sample,
)

QUIET = Load(0, 0, 0)


def work(products: int) -> Callable[[], object]:
    matrix = np.ones(20_000)

    def call() -> None:
        for _ in range(products):
            np.sqrt(matrix)

    return call


def both(ours: Callable[[], object], theirs: Callable[[], object]) -> Callable[[], tuple[Calls, Calls]]:
    return lambda: ({"part": ours}, {"part": theirs})


def test_a_fifth_more_work_takes_a_fifth_more_time() -> None:
    ratio = measure_ratios(both(work(120), work(100)), {"part": 1.1})["part"]
    assert ratio.value == pytest.approx(1.2, abs=0.06)
    assert ratio.low <= ratio.value <= ratio.high


def test_waiting_for_the_processor_does_not_count() -> None:
    patient = work(100)

    def waiting() -> None:
        patient()
        time.sleep(0.002)

    assert measure_ratios(both(waiting, work(100)), {})["part"].value < 1.2


@pytest.fixture
def busy() -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(4):
            program = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(program.kill)
        time.sleep(0.3)
        yield


def test_beside_busy_programs_more_work_is_never_passed_and_less_never_failed(busy: None) -> None:
    slow = measure_ratios(both(work(135), work(100)), {"part": 1.1})["part"]
    good = measure_ratios(both(work(100), work(100)), {"part": 1.1})["part"]
    assert slow.busy and good.busy
    assert check_speed("step", slow, 1.1).verdict != "passed"
    assert check_speed("step", good, 1.1).verdict != "failed"


def test_busy_programs_are_noticed(busy: None) -> None:
    meter, end = LoadMeter(), time.perf_counter() + 2
    while time.perf_counter() < end:
        meter.seconds(work(100))
    load = meter.load()
    assert "other programs used" in load.reason
    assert load.waited > 0 or load.others > 0.1


def test_a_load_is_told_in_words() -> None:
    assert QUIET.reason == ""
    assert Load(0.5, 0.0, 0.0).reason == "the calls waited for a core in 50% of the time"
    assert Load(0.5, 0.25, 0.1).reason.count(", ") == 2


def scripted(monkeypatch: pytest.MonkeyPatch, samples: list[Sample], load: Load = QUIET) -> list[Sample]:
    """Let each opening measure the next of these samples, and then the last one again."""
    taken: list[Sample] = []

    def take(*arguments: object) -> Sample:
        taken.append(samples[min(len(taken), len(samples) - 1)])
        return taken[-1]

    monkeypatch.setattr(relative_speed, "sample", take)
    monkeypatch.setattr(LoadMeter, "load", lambda meter: load)
    return taken


@pytest.mark.parametrize(("ours", "openings"), [(0.5, PASSING_OPENINGS), (0.7, FAILING_OPENINGS)])
def test_what_is_clear_is_settled_soon(monkeypatch: pytest.MonkeyPatch, ours: float, openings: int) -> None:
    taken = scripted(monkeypatch, [Sample(ours, 1.0)])
    assert measure_ratios(both(work(1), work(1)), {"part": 0.6})["part"].rounds == openings == len(taken)


def test_a_record_takes_more_openings(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = scripted(monkeypatch, [Sample(0.5, 1.0)])
    assert measure_ratios(both(work(1), work(1)), {})["part"].rounds == RECORD_OPENINGS == len(taken)


def test_one_bad_placement_does_not_fail_a_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two openings above the limit are followed by others; the best counts."""
    scripted(monkeypatch, [Sample(0.7, 1.0), Sample(0.7, 1.0), Sample(0.7, 1.0), Sample(0.5, 1.0), Sample(0.5, 1.0)])
    ratio = measure_ratios(both(work(1), work(1)), {"part": 0.6})["part"]
    assert ratio.rounds == FAILING_OPENINGS + 1 and ratio.value == 0.5


def test_what_is_not_clear_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [Sample(1.0, 1.1), Sample(1.2, 1.0), Sample(1.3, 1.3)])
    ratio = measure_ratios(both(work(1), work(1)), {"part": 1.0})["part"]
    assert ratio.rounds == MOST_OPENINGS and ratio.low <= 1.0 <= ratio.high


def test_a_busy_machine_is_given_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [Sample(1.0, 1.0)], Load(0.5, 0.5, 0))
    ratio = measure_ratios(both(work(1), work(1)), {"part": 0.97})["part"]
    assert ratio.rounds == MOST_OPENINGS and "waited" in ratio.busy
    monkeypatch.setattr(relative_speed, "PATIENCE", 0.0)
    assert measure_ratios(both(work(1), work(1)), {"part": 0.97})["part"].rounds == FAILING_OPENINGS


def test_the_best_opening_of_each_side_counts() -> None:
    """Where weights lie in memory differs from opening to opening, on either side."""
    ratio = ratio_of([Sample(1.2, 2.0), Sample(1.0, 2.4), Sample(1.3, 2.1)])
    assert ratio.value == 0.5 and ratio.low < 0.5 < ratio.high


def test_the_clock_does_not_count() -> None:
    """All processor times of the second opening are a third longer."""
    clock = 1.0

    def seconds(call: Callable[[], object]) -> float:
        value = call()
        return (value if isinstance(value, float) else 0.1) * clock

    first = sample(lambda: 2.0, lambda: 4.0, seconds)
    clock = 1.33
    second = sample(lambda: 2.0, lambda: 4.0, seconds)
    assert (second.ours, second.theirs) == (pytest.approx(first.ours), pytest.approx(first.theirs))


def test_some_disturbed_calls_change_nothing() -> None:
    """Every second call of either side takes half as long again, as after a switch to another program."""
    calls = {"ours": 0, "theirs": 0}

    def seconds(call: Callable[[], object]) -> float:
        name = call()
        if not isinstance(name, str):
            return 0.001
        calls[name] += 1
        return {"ours": 0.005, "theirs": 0.01}[name] * (1.5 if calls[name] % 2 else 1)

    found = sample(lambda: "ours", lambda: "theirs", seconds)
    assert found.ours / found.theirs == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("value", "busy", "verdict"),
    [
        (1.0, "", "passed"),
        (1.09, "", "passed"),
        (1.11, "", "failed"),
        (1.0, "it is", "passed"),
        (1.09, "it is", "passed"),
        (1.11, "it is", "not measured"),
        (1.1 * (1 + DISTURBED) + 0.01, "it is", "failed"),
    ],
)
def test_near_the_limit_a_busy_machine_decides_nothing(value: float, busy: str, verdict: str) -> None:
    check = check_speed("step", Ratio(value, value, value, 4, busy), 1.1)
    assert check.verdict == verdict
    assert ("machine busy: it is" in check.note) == (verdict == "not measured")
