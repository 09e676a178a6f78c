"""Ratios of processor times."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count

import numpy as np
import pytest

from edge_asr_deploy.harness.gate import relative_speed
from edge_asr_deploy.harness.gate.relative_speed import ROUNDS, WIDENINGS, measure_ratio, median_ratio


def work(products: int) -> Callable[[], object]:
    matrix = np.ones(20_000)

    def call() -> None:
        for _ in range(products):
            np.sqrt(matrix)

    return call


def test_a_fifth_more_work_takes_a_fifth_more_time() -> None:
    ratio = measure_ratio(work(120), work(100), limit=1.1)
    assert ratio.value == pytest.approx(1.2, abs=0.06)
    assert ratio.low <= ratio.value <= ratio.high


def test_waiting_for_the_processor_does_not_count() -> None:
    busy, patient = work(100), work(100)

    def waiting() -> None:
        patient()
        time.sleep(0.002)

    assert measure_ratio(waiting, busy, limit=1.3).value < 1.2


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], None]:
    """Let the calls of `ours` and `theirs` take what a test says."""

    def install(times: list[float]) -> None:
        sequence = count()
        monkeypatch.setattr(
            relative_speed, "_seconds", lambda call, number: call() * times[next(sequence) % len(times)]
        )

    return install


def test_what_is_clear_is_settled_at_once(clock: Callable[[list[float]], None]) -> None:
    clock([1.0])
    assert measure_ratio(lambda: 0.5, lambda: 1.0, limit=0.6).rounds == ROUNDS
    assert measure_ratio(lambda: 0.7, lambda: 1.0, limit=0.6).rounds == ROUNDS


def test_what_is_not_clear_is_measured_again(clock: Callable[[list[float]], None]) -> None:
    clock([1.0, 1.2, 0.9, 0.8, 1.1])
    ratio = measure_ratio(lambda: 1.0, lambda: 1.0, limit=1.0)
    assert ratio.rounds == ROUNDS * WIDENINGS


def test_the_interval_holds_the_median_in_99_of_100_cases() -> None:
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        ratio = median_ratio(generator.lognormal(size=33).tolist())
        held += ratio.low <= 1 <= ratio.high
    assert held >= 0.98 * 400


def test_one_disturbed_round_changes_nothing() -> None:
    assert median_ratio([1.0] * 10 + [50.0]).value == 1.0
    assert median_ratio([1.0] * 10 + [50.0]).high <= 50.0
