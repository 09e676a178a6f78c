"""`edge-deploy bench` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner, Result

from edge_asr_deploy.cli import app
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.benchmark import bench
from edge_asr_deploy.harness.benchmark.result import Benchmark
from edge_asr_deploy.harness.evaluation import measure
from edge_asr_deploy.harness.machine.state import BoardState
from tests.support.fakes import Workers, speech, write_bundle


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A w4 bundle, its float baseline and a manifest of two clips of 1 and 2 s."""
    monkeypatch.setattr(measure, "Worker", Workers(lambda name, seconds: "a b c", {"w4": 0.002, "float": 0.01}))
    write_bundle(tmp_path / "w4")
    write_bundle(tmp_path / "float", bits=32)
    rows = []
    for utterance in speech({"one": "text", "two": "text"}):
        soundfile.write(tmp_path / f"{utterance.id}.wav", utterance.samples() * 0.1, 16_000)
        rows.append(json.dumps({"id": utterance.id, "audio": f"{utterance.id}.wav", "source": "test"}))
    (tmp_path / "speech.jsonl").write_text("\n".join(rows) + "\n")
    return tmp_path


def invoke(folder: Path, *more: str) -> Result:
    given = ["bench", str(folder / "w4"), "--data", str(folder / "speech.jsonl"), "--rounds", "1", *more]
    return CliRunner().invoke(app, given, env={"COLUMNS": "120"})


def test_a_person_sees_times_by_length_and_ratios(folder: Path) -> None:
    ran = invoke(folder, "--baseline", "auto")
    assert ran.exit_code == 0, ran.output
    for shown in ("1.5 s", "75 s", "float", "w4", "tokens per second", "5.00"):
        assert shown in ran.stdout


def test_a_machine_gets_json_and_a_file_holds_the_same(folder: Path) -> None:
    ran = invoke(folder, "--json", "--lengths", "1,2", "--threads", "2,1", "--output", str(folder / "bench.json"))
    found = Benchmark.model_validate_json(ran.stdout)
    assert [run.threads for run in found.runs] == [2, 1]
    assert found.options.lengths == (1, 2) and found.command is not None
    assert Benchmark.model_validate_json((folder / "bench.json").read_text()) == found
    assert [path.name for path in folder.glob(".*")] == []


def test_throttling_ends_a_comparison_with_code_1(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hot = BoardState(throttled=0x4)
    original = bench.bench
    monkeypatch.setattr(bench, "bench", lambda *given: original(*given, look=lambda: hot))
    ran = invoke(folder, "--baseline", "auto")
    assert ran.exit_code == 1
    assert "throttled while measuring" in ran.stderr and "Not compared" in ran.stderr
    alone = invoke(folder)
    assert alone.exit_code == 0 and "throttled while measuring" in alone.stderr


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--baseline", "absent"], "absent"),
        (["--data", "absent.jsonl"], r"absent\.jsonl"),
        (["--output", "absent/bench.json"], "its folder does not exist"),
        (["--threads", "1,two"], "--threads: 1,two: write numbers"),
        (["--threads", "0"], "--threads: 0"),
        (["--lengths", ""], "--lengths"),
        (["--lengths", "3,nan"], "--lengths: 3,nan"),
    ],
)
def test_bad_input_is_named(folder: Path, more: list[str], named: str) -> None:
    ran = invoke(folder, *more)
    assert isinstance(ran.exception, UserError)
    with pytest.raises(UserError, match=named):
        raise ran.exception
