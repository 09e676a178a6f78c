"""`bench --live`: what a speaker notices, with a stream whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from edge_asr_deploy.cli import app
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.benchmark import live as module
from edge_asr_deploy.harness.benchmark.live import LiveBenchmark, run_live
from edge_asr_deploy.harness.benchmark.options import BenchOptions
from edge_asr_deploy.runtime.live.events import Event, Final, Partial, SpeechStarted
from edge_asr_deploy.runtime.transcript import Segment
from tests.support.fakes import write_bundle
from tests.support.voice import voice


class Stream:
    """Speech from 0.5 to 1.5 s: "lights om" after a second, "lights on" at the end, which is known at 2 s."""

    def __init__(self, clock: list[float]) -> None:
        self.clock, self.heard, self.left = clock, 0.0, self.events()

    def events(self) -> list[tuple[float, Event]]:
        final = Final(Segment(0.5, 1.5, "lights on", (1, 2), 0.0, None, 1.0, 0.0))
        return [(0.6, SpeechStarted(0.5)), (1.0, Partial("lights om", "lights")), (2.0, final)]

    def push(self, samples: np.ndarray) -> list[Event]:
        self.heard += len(samples) / 16_000
        due = [event for at, event in self.left if at <= self.heard + 1e-6]
        self.left = self.left[len(due) :]
        if any(isinstance(event, Final) for event in due):
            self.clock[0] += 0.02
        return due

    def finish(self) -> list[Event]:
        return []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle and two recordings of 2 s, and a clock that waiting moves."""
    write_bundle(tmp_path / "w4")
    rows = []
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", voice(2), 16_000)
        rows.append(json.dumps({"id": name, "audio": f"{name}.wav", "source": "test", "text": "lights on"}))
    (tmp_path / "speech.jsonl").write_text("\n".join(rows) + "\n")
    clock = [0.0]
    transcriber = SimpleNamespace(
        stream=lambda language: Stream(clock), transcribe=lambda samples, language: SimpleNamespace(text="lights")
    )
    monkeypatch.setattr(module.Transcriber, "open", lambda *_, **__: transcriber)
    monkeypatch.setattr(module, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(module, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    return tmp_path


def measured(folder: Path, **changes: Any) -> LiveBenchmark:
    options = BenchOptions(data=(str(folder / "speech.jsonl"),), live=True, threads=(1,), **changes)
    return run_live(folder / "w4", options, wait=lambda seconds: module.sleep(seconds))


def test_times_are_those_of_a_speaker(folder: Path) -> None:
    found = measured(folder)
    # The final text comes with the block that ends at 2 s, and took 20 ms; speech ended at 1.5 s.
    assert found.final_ms.p50 == pytest.approx(520) and found.work_ms.p50 == pytest.approx(20)
    assert found.first_partial_ms and found.first_partial_ms.p50 == pytest.approx(500)
    assert (found.recordings, found.stretches, found.partials) == (2, 2, 2)
    assert found.revised_words == 0.5
    # The next block waited for the 20 ms.
    assert found.behind_ms < 20


def test_words_are_scored_live_and_whole(folder: Path) -> None:
    found = measured(folder)
    assert (found.wer, found.wer_whole) == (0.0, 0.5)


def test_no_more_recordings_than_wanted(folder: Path) -> None:
    assert measured(folder, clips=1).recordings == 1


def test_the_command_prints_a_table_or_json_and_writes_a_file(folder: Path) -> None:
    given = ["bench", str(folder / "w4"), "--data", str(folder / "speech.jsonl"), "--live", "--clips", "1"]
    ran = CliRunner().invoke(app, given, env={"COLUMNS": "120"})
    assert ran.exit_code == 0 and "end of speech to final text" in ran.stdout and "0.00% / 50.00%" in ran.stdout
    ran = CliRunner().invoke(app, [*given, "--json", "--output", str(folder / "live.json")])
    assert LiveBenchmark.model_validate_json(ran.stdout).wer == 0.0
    assert LiveBenchmark.model_validate_json((folder / "live.json").read_text()).command


def test_boards_run_it_themselves(folder: Path) -> None:
    found = CliRunner().invoke(app, ["bench", str(folder / "w4"), "--live", "--on", "pi@board"]).exception
    assert isinstance(found, UserError) and "log in" in str(found)
