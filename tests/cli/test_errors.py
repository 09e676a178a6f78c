"""Errors on standard error: one line, with the program's name except on a board."""

from __future__ import annotations

import io
import json
import os
import sys

import pytest

from edge_asr_deploy import cli
from edge_asr_deploy.cli.errors import PLAIN_ERRORS
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


def test_a_board_reports_a_bug_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(PLAIN_ERRORS, "1")
    assert exit_code(ValueError("bad\nnews"), monkeypatch) == 1
    assert capsys.readouterr().err == "ValueError: bad news\n"


def test_elsewhere_a_bug_has_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PLAIN_ERRORS, raising=False)

    def fail() -> None:
        raise ValueError("bad news")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(ValueError, match="bad news"):
        cli.main()


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
def test_no_output_of_any_command_is_lost_to_an_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["größer", "日本 👩", os.fsdecode(b"caf\xe9")]
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(cli, "app", lambda: print(json.dumps(texts, ensure_ascii=False)))
    cli.main()
    stream.seek(0)
    assert json.loads(stream.read()) == texts
