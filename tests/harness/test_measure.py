"""Text once over everything, speed side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_asr_deploy import progress
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.evaluation import measure
from edge_asr_deploy.harness.evaluation.measure import Subject, measure_speed, speed_clips, transcribe_all
from edge_asr_deploy.harness.evaluation.speech import Item
from edge_asr_deploy.runtime.session import SessionSettings
from tests.support.fakes import Workers, speech

A, B = Subject(Path("a"), {}), Subject(Path("b"), {})


def items(number: int) -> list[Item]:
    utterances = speech({f"clip{n}": "text" for n in range(number)})
    return [Item(u, "text", u.fingerprint(), len(u.samples()) / 16_000) for u in utterances]  # type: ignore[arg-type]


def install(monkeypatch: pytest.MonkeyPatch, workers: Workers) -> Workers:
    monkeypatch.setattr(measure, "Worker", workers)
    return workers


@pytest.mark.parametrize("jobs", [1, 3])
def test_texts_keep_the_order_of_the_items(monkeypatch: pytest.MonkeyPatch, jobs: int) -> None:
    workers = install(monkeypatch, Workers(lambda bundle, seconds: f"{seconds:.0f} seconds"))
    reports: list[tuple[object, ...]] = []
    texts = transcribe_all(A, items(7), SessionSettings(threads=1), jobs, None, lambda *report: reports.append(report))
    assert [text.text for text in texts] == [f"{n + 1} seconds" for n in range(7)]
    assert reports[-1][1:] == (7, 7)
    assert 1 <= len(workers.opened) <= jobs
    assert {settings.spinning for settings in workers.settings} == {jobs == 1}


def test_an_error_ends_the_run_and_leaves_the_rest_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    def hears(bundle: str, seconds: float) -> str:
        if seconds == 2:
            raise UserError("bundle", bundle, "out of memory")
        return "text"

    workers = install(monkeypatch, Workers(hears))
    with pytest.raises(UserError, match="out of memory"):
        transcribe_all(A, items(9), SessionSettings(), 1, None, progress.silent)
    assert [seconds for _, seconds in workers.calls] == [1, 2]


def test_speed_is_measured_in_turns_in_fresh_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = install(monkeypatch, Workers(lambda bundle, seconds: "a b c", step={"a": 0.01, "b": 0.002}))
    first, second = measure_speed([A, B], items(2), SessionSettings(), 2, progress.silent)
    # The first two leave what later starts take from the start-up cache.
    assert workers.opened == ["a", "b", *("a", "b"), *("b", "a")]
    warm_up, timed = [("a", 1), ("b", 1)], [("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    other_warm_up, other_timed = [("b", 1), ("a", 1)], [("b", 1), ("a", 1), ("b", 2), ("a", 2)]
    assert workers.calls == warm_up + timed + other_warm_up + other_timed
    assert first.tokens_per_second == pytest.approx(100)
    assert second.tokens_per_second == pytest.approx(500)


def test_speed_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Workers(lambda bundle, seconds: "a b c"))
    (speed,) = measure_speed([A], items(3), SessionSettings(), 1, progress.silent)
    assert speed.rtf == pytest.approx(3 * 0.2 / (1 + 2 + 3)), "processing time over audio time"
    assert speed.load_seconds == 0.5
    assert speed.peak_rss == 10**8
    assert speed.encoder_ms.p50 == pytest.approx(100)
    assert speed.first_token_ms.p99 == pytest.approx(20)
    assert [(clip.id, clip.tokens) for clip in speed.clips] == [("clip0", 3), ("clip1", 3), ("clip2", 3)]


def test_timed_clips_are_spread_over_the_lengths() -> None:
    assert [item.seconds for item in speed_clips(items(10), 2)] == [3, 8]
    assert [item.seconds for item in speed_clips(items(2), 5)] == [1, 2]
