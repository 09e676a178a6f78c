"""`edge-deploy doctor` as a user calls it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_asr_deploy.cli import app
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.doctor import doctor
from edge_asr_deploy.harness.doctor.doctor import Diagnosis
from edge_asr_deploy.harness.machine.resources import read_machine
from tests.support.boards import pi


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Raspberry Pi 4 on which everything imports."""
    root = pi(tmp_path)
    monkeypatch.setattr(doctor, "read_machine", lambda: read_machine(root, architecture="aarch64"))
    steps = [{"step": "import numpy"}, {"step": "import numpy", "found": "2.1.0"}]
    monkeypatch.setattr(doctor, "run_probe", lambda: (steps, 0))
    return root


def test_a_person_sees_the_target_and_the_verdict(board: Path) -> None:
    ran = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "120"})
    assert ran.exit_code == 0, ran.output
    for shown in ("Raspberry Pi 4", "pi4", "import numpy", "2.1.0", "bundles run here"):
        assert shown in ran.stdout


def test_what_must_be_mended_gives_code_1(board: Path) -> None:
    pi(board, free_mb=50)
    ran = CliRunner().invoke(app, ["doctor", "--json"])
    assert ran.exit_code == 1
    found = Diagnosis.model_validate_json(ran.stdout)
    assert [finding.check for finding in found.findings if finding.status == "problem"] == ["memory"]


def test_a_folder_that_is_no_bundle_is_one_clear_line(board: Path, tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["doctor", str(tmp_path)])
    assert isinstance(ran.exception, UserError)
    assert "edge-deploy export" in str(ran.exception)
