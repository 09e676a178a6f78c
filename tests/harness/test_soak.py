"""Memory under load."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_asr_deploy.harness.benchmark import soak as module
from edge_asr_deploy.harness.benchmark.soak import Point, memory_slope, soak
from edge_asr_deploy.harness.evaluation import measure
from edge_asr_deploy.harness.evaluation.measure import Subject
from edge_asr_deploy.harness.machine.state import BoardState
from edge_asr_deploy.runtime.session import SessionSettings
from tests.support.fakes import FakeWorker, Workers, speech


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(-10_000, 10_000), st.lists(st.integers(0, 10**8), min_size=1, max_size=4), st.integers(2, 20))
def test_the_slope_of_a_line_is_its_slope_whatever_the_clips_weigh(slope: int, sizes: list[int], passes: int) -> None:
    points = [
        Point(str(clip), float(at), 10**9 + size + slope * at)
        for number in range(passes)
        for clip, size in enumerate(sizes)
        for at in [number * len(sizes) + clip]
    ]
    assert memory_slope(points) == pytest.approx(slope, abs=1e-6)


def test_one_outlier_does_not_make_a_leak() -> None:
    points = [Point("a", float(at), 10**8 + (10**7 if at == 19 else 0)) for at in range(20)]
    assert memory_slope(points) == 0


def test_a_long_soak_is_thinned_out() -> None:
    points = [Point("a", float(at), 3 * at) for at in range(20_000)]
    assert memory_slope(points) == pytest.approx(3)


def test_no_clip_twice_is_no_slope() -> None:
    with pytest.raises(ValueError, match="heard twice"):
        memory_slope([Point("a", 0, 1), Point("b", 1, 2)])


class Leaking(FakeWorker):
    """Each transcription takes 10 seconds by the clock and leaves 1 MB behind; the first pass leaves 50 MB more."""

    now, heard = 0.0, 0

    def transcribe(self, samples, options):  # type: ignore[no-untyped-def]
        Leaking.now += 10
        Leaking.heard += 1
        return super().transcribe(samples, options)

    def rss(self) -> int:
        return 200_000_000 + 1_000_000 * Leaking.heard + (50_000_000 if Leaking.heard > 1 else 0)


def run(monkeypatch: pytest.MonkeyPatch, seconds: float) -> tuple[module.Soak, list[float]]:
    Leaking.now, Leaking.heard = 0.0, 0
    workers = Workers(lambda bundle, length: "text")
    monkeypatch.setattr(measure, "Worker", lambda bundle, *_: Leaking(workers, bundle.name))
    monkeypatch.setattr(module, "monotonic", lambda: Leaking.now)
    told: list[float] = []
    clips = speech({"one": None, "two": None})
    looks = iter([BoardState(throttle_events=0)] + [BoardState(throttle_events=1)] * 99)
    one = SessionSettings(threads=1)

    def report(what: str, done: int = 0, total: int = 0) -> None:
        told.append(done)

    return soak(Subject(Path("a"), {}), clips, one, seconds, lambda: next(looks), report), told


def test_a_leak_is_measured_after_the_first_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    found, told = run(monkeypatch, 65)
    assert (found.passes, found.seconds, told[-1]) == (4, 80, 80), "whole passes, until the time is over"
    assert found.rss_per_minute == pytest.approx(6_000_000)
    assert (found.rss_first, found.rss_last) == (252_000_000, 258_000_000)
    assert found.disturbances == ["the processor was slowed by heat or power in between"]
    assert found.rtf_last == pytest.approx(0.4 / 3)


def test_a_short_soak_has_no_slope(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = run(monkeypatch, 30)
    assert (found.passes, found.rss_per_minute) == (2, None)
