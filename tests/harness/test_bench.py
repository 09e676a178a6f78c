"""Times by length, beside a baseline, and what is not compared."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from edge_asr_deploy import progress
from edge_asr_deploy.bundle.manifest import bundle_hash, read_manifest
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.benchmark import bench as module
from edge_asr_deploy.harness.benchmark.bench import bench
from edge_asr_deploy.harness.benchmark.fixed_lengths import fixed_lengths
from edge_asr_deploy.harness.benchmark.report import bench_tables
from edge_asr_deploy.harness.benchmark.result import Benchmark, Options
from edge_asr_deploy.harness.evaluation import measure
from edge_asr_deploy.harness.machine.state import BoardState
from tests.support.fakes import Workers, speech, write_bundle

LENGTHS = (1.0, 2.5)


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    """Both bundles write three words; the float one takes five times as long for a token."""
    workers = Workers(lambda name, seconds: "a b c", {"w4": 0.002, "float": 0.01})
    monkeypatch.setattr(measure, "Worker", workers)
    return workers


@pytest.fixture
def bundles(tmp_path: Path) -> tuple[Path, Path]:
    write_bundle(tmp_path / "w4")
    write_bundle(tmp_path / "float", bits=32)
    return tmp_path / "w4", tmp_path / "float"


def timed(
    bundles: tuple[Path, Path], states: list[BoardState] | None = None, alone: bool = False, **changes: Any
) -> Benchmark:
    looks: Iterator[BoardState] = iter(states or [BoardState()] * 99)
    options = Options(**{"lengths": LENGTHS, "rounds": 2, "threads": (1,), **changes})
    audio = fixed_lengths(speech({"one": None, "two": None, "three": None}), LENGTHS)
    baseline = None if alone else bundles[1]
    return bench(bundles[0], baseline, audio, options, progress.silent, lambda: next(looks))


def test_every_length_is_warmed_up_in_a_fresh_process_then_timed_in_turn(
    workers: Workers, bundles: tuple[Path, Path]
) -> None:
    timed(bundles)
    assert workers.opened == ["w4", "float", *("w4", "float"), *("float", "w4")]
    warm = [("w4", 1), ("w4", 2.5), ("float", 1), ("float", 2.5)]
    assert workers.calls[:8] == [*warm, ("w4", 1), ("float", 1), ("w4", 2.5), ("float", 2.5)]
    assert workers.calls[12:] == [("float", 1), ("w4", 1), ("float", 2.5), ("w4", 2.5)]


def test_figures(workers: Workers, bundles: tuple[Path, Path]) -> None:
    found = timed(bundles)
    [run] = found.runs
    first, second = run.bundle.by_length
    assert (first.name, first.tokens, second.name) == ("1 s", 3, "2.5 s")
    assert (first.rtf, second.rtf) == (pytest.approx(0.2), pytest.approx(0.08))
    assert first.encoder_ms.p50 == pytest.approx(100) and first.first_token_ms.p99 == pytest.approx(20)
    assert first.per_token_ms is not None and first.per_token_ms.p90 == pytest.approx(2)
    assert run.bundle.load_ms.p50 == pytest.approx(500)
    assert run.bundle.all_lengths.rtf == pytest.approx(4 * 0.2 / 7)
    assert run.comparison is not None
    assert run.comparison.all_lengths.tokens_per_second == pytest.approx(5)
    assert run.comparison.total["2.5 s"].value == pytest.approx(1)
    assert len(run.board) == 3, "before, and after every round"


def test_the_record_says_what_was_timed_and_on_what(workers: Workers, bundles: tuple[Path, Path]) -> None:
    found = timed(bundles)
    assert found.bundle.hash == bundle_hash(read_manifest(bundles[0]))
    assert found.baseline is not None and found.baseline.name == "float"
    assert [(s.name, s.pieces[0].id) for s in found.audio] == [("1 s", "one"), ("2.5 s", "three")]
    assert found.target and found.environment.onnxruntime
    assert Benchmark.model_validate_json(found.model_dump_json()) == found


def test_threads_are_swept(workers: Workers, bundles: tuple[Path, Path]) -> None:
    found = timed(bundles, threads=(4, 1), rounds=1, alone=True)
    assert [run.threads for run in found.runs] == [4, 1]
    assert [settings.threads for settings in workers.settings] == [4, 4, 1, 1]
    assert found.runs[0].baseline is found.runs[0].comparison is None


def test_runs_that_throttled_are_not_compared(workers: Workers, bundles: tuple[Path, Path]) -> None:
    calm, hot = BoardState(throttled=0), BoardState(throttled=0x40004)
    # One look for the notes, then three per number of threads.
    found = timed(bundles, [calm, calm, calm, calm, calm, calm, hot], threads=(1, 2))
    good, spoilt = found.runs
    assert good.comparison is not None and good.disturbances == []
    assert spoilt.comparison is None and spoilt.baseline is not None
    assert found.disturbances == ["throttled while measuring", "throttled in between"]


def test_a_person_is_told_what_makes_times_vary(
    workers: Workers, bundles: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.os, "getloadavg", lambda: (3.2, 0, 0))
    state = BoardState(governor="ondemand", throttled=0x10000)
    notes = " ".join(timed(bundles, [state] * 9).notes)
    for named in ("governor is ondemand", "under-voltage", "3.2 cores busy"):
        assert named in notes
    monkeypatch.setattr(module.os, "getloadavg", lambda: (0.1, 0, 0))
    assert timed(bundles, [BoardState(governor="performance")] * 9).notes == []


def test_tables_fit_a_terminal(workers: Workers, bundles: tuple[Path, Path]) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(*bench_tables(timed(bundles, threads=(1, 2))), sep="\n")
    text = console.export_text()
    for shown in ("1 s", "2.5 s", "ratio", "tokens per second", "5.00", "threads"):
        assert shown in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_damaged_bundle_is_refused(workers: Workers, bundles: tuple[Path, Path]) -> None:
    (bundles[0] / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"config\.json"):
        timed(bundles)
    assert workers.opened == []
