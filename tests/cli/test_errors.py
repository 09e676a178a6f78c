"""Errors on standard error: one line, with the program's name except on a board."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_asr_deploy import cli
from edge_asr_deploy.cli.errors import PLAIN_ERRORS, TRACEBACK
from edge_asr_deploy.errors import UserError


def exit_code(error: Exception, monkeypatch: pytest.MonkeyPatch) -> object:
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


@pytest.mark.parametrize(("on_board", "line"), [("", "edge-deploy: --bits: 9: choose 4"), ("1", "--bits: 9: choose 4")])
def test_an_error_of_the_user_is_one_line(
    on_board: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PLAIN_ERRORS, on_board)
    assert exit_code(UserError("--bits", 9, "choose 4"), monkeypatch) == 2
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize("on_board", ["", "1"])
def test_an_error_that_nobody_foresaw_is_one_line_too(
    on_board: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And not the exit code of a gate that failed."""
    monkeypatch.setenv(PLAIN_ERRORS, on_board)
    monkeypatch.delenv(TRACEBACK, raising=False)
    name = "" if on_board else "edge-deploy: "
    assert exit_code(ValueError("bad\nnews"), monkeypatch) == 2
    remedy = f"run it again with {TRACEBACK}=FILE, and report that file"
    assert capsys.readouterr().err == f"{name}ValueError: bad news; nobody foresaw this: {remedy}\n"
    monkeypatch.setenv(TRACEBACK, str(tmp_path / "trace.txt"))
    assert exit_code(ValueError("bad\nnews"), monkeypatch) == 2
    assert capsys.readouterr().err == f"{name}ValueError: bad news; the traceback is in {tmp_path}/trace.txt\n"
    assert "in fail\n" in (tmp_path / "trace.txt").read_text()
    monkeypatch.setenv(TRACEBACK, str(tmp_path))
    exit_code(ValueError(), monkeypatch)
    assert "cannot be written (" in capsys.readouterr().err


def test_too_little_memory_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(MemoryError("Unable to allocate 2 MiB"), monkeypatch) == 2
    assert "too little memory (MemoryError: Unable to allocate 2 MiB); free some" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
def test_no_output_of_any_command_is_lost_to_an_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["größer", "日本 👩", os.fsdecode(b"caf\xe9")]
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(cli, "app", lambda: print(json.dumps(texts, ensure_ascii=False)))
    cli.main()
    stream.seek(0)
    assert json.loads(stream.read()) == texts


def test_sigterm_unwinds_the_stack(tmp_path: Path) -> None:
    """A container that is stopped, a unit that is: no half-written folder stays."""
    program = f"""
import os, signal, sys
from pathlib import Path
from edge_asr_deploy import cli
from edge_asr_deploy.bundle.writer import BundleWriter
def app():
    with BundleWriter(Path({str(tmp_path / "tiny")!r})) as writer:
        (writer.folder / "half").touch()
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
cli.app = app
cli.main()
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (143, "")
    assert list(tmp_path.iterdir()) == []
