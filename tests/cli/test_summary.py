"""`edge-deploy summary`: the table of the README."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_asr_deploy import progress
from edge_asr_deploy.cli import app
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.evaluation import measure
from edge_asr_deploy.harness.evaluation.evaluate import evaluate
from edge_asr_deploy.harness.evaluation.options import EvaluateOptions
from tests.support.fakes import Workers, speech, write_bundle


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two bundles of one model, each measured against its float baseline."""
    hears = Workers(lambda name, seconds: "wrong word" if name == "w3" and seconds > 1 else "right word")
    monkeypatch.setattr(measure, "Worker", hears)
    write_bundle(tmp_path / "float", bits=32)
    clips = speech({"one": "right word", "two": "right word"})
    paths = []
    for bits in (4, 3):
        write_bundle(tmp_path / f"w{bits}", bits=bits)
        options = EvaluateOptions(clips=2, rounds=1, cache=False)
        done = evaluate(tmp_path / f"w{bits}", tmp_path / "float", clips, "", options, progress.silent)
        paths.append(tmp_path / f"w{bits}.json")
        paths[-1].write_text(done.model_dump_json())
    return [str(path) for path in paths]


def test_a_row_for_every_bundle_and_one_for_their_baseline(results: list[str]) -> None:
    ran = CliRunner().invoke(app, ["summary", *results])
    assert ran.exit_code == 0, ran.output
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in ran.stdout.splitlines()]
    assert [row[1] for row in rows] == ["bundle", "---", "float", "w4", "w3"]
    assert [row[2] for row in rows[2:]] == ["0.00", "0.00", "25.00"]
    assert rows[3][3].startswith("+0.00 (") and rows[4][3].startswith("+25.00 (")
    assert len({len(row) for row in rows}) == 1


@pytest.mark.parametrize("content", [None, "not JSON", "{}"])
def test_what_is_no_result_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    ran = CliRunner().invoke(app, ["summary", str(path)])
    assert isinstance(ran.exception, UserError)
    assert "x.json" in str(ran.exception) and "\n" not in str(ran.exception)


def test_no_row_stands_below_a_float_row_of_other_speech(
    results: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The float bundle hears the first set well and the second badly; files come in any order."""
    hears = Workers(lambda name, seconds: "wrong words" if name == "float" else "right word")
    monkeypatch.setattr(measure, "Worker", hears)
    options = EvaluateOptions(clips=2, rounds=1, cache=False)
    clips = speech({"one": "right word", "two": "right word"}, "noisy")
    other = evaluate(tmp_path / "w4", tmp_path / "float", clips, "", options, progress.silent)
    (tmp_path / "noisy.json").write_text(other.model_dump_json())
    ran = CliRunner().invoke(app, ["summary", results[0], str(tmp_path / "noisy.json"), results[1]])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in ran.stdout.splitlines()]
    assert [(row[0], row[2], row[3]) for row in rows] == [
        ("speech", "bundle", "WER %"),
        ("---", "---", "---"),
        ("1: corpus (2), WER", "float", "0.00"),
        ("1: corpus (2), WER", "w4", "0.00"),
        ("1: corpus (2), WER", "w3", "25.00"),
        ("2: noisy (2), WER", "float", "100.00"),
        ("2: noisy (2), WER", "w4", "0.00"),
    ]
