"""Boards that answer anything: one line for each, no waiting without end, and the other boards go on."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from edge_asr_deploy.boards import ssh
from edge_asr_deploy.boards.remote import run_on
from edge_asr_deploy.cli import app
from tests.support.fakes import write_bundle

# What stands for `ssh`: the helpers of every board, then what this one does.
PRELUDE = """#!{python}
import json, os, sys, time
def say(x):
    data = x if isinstance(x, bytes) else json.dumps(x).encode() + b"\\n"
    while data:
        data = data[os.write(1, data):]
GOOD = {{"have": {{"missing": {{}}}}, "environment": {{"made": True, "log": ""}}, "package": {{}}, "speech": {{}}}}
ABOUT = {{"python": [3, 11], "machine": "x86_64", "bits": 64, "system": "Linux", "venv": True}}
RAN = {{"code": 0, "output": "[]", "messages": "", "job": "/job"}}
def talk(**answers):
    say(ABOUT)
    for line in sys.stdin.buffer:
        if line.strip():
            say({{**GOOD, "run": RAN, **answers}}[json.loads(line)["do"]])
def ran(**changes):
    talk(run={{**RAN, **changes}})
if sys.argv[-2] == "good":
    say(b"edge-deploy agent\\n")
    ran(output=json.dumps([{{"file": "a", "text": "well"}}]))
{body}
"""
READY = "say(b'edge-deploy agent\\n')\n"
Board = Callable[[str], None]


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    """Makes `ssh` a program with this body; a board called `good` answers as it should."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(ssh, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(ssh, "GREETING_SECONDS", 3.0)
    monkeypatch.setattr(ssh, "LONGEST_ANSWER", 2_000_000)

    def make(body: str) -> None:
        (tmp_path / "bin" / "ssh").write_text(PRELUDE.format(python=sys.executable, body=body))
        (tmp_path / "bin" / "ssh").chmod(0o755)

    return make


ENDLESS = "try:\n    while True: os.write(1, b'x' * 65536)\nexcept BrokenPipeError: pass\n"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("time.sleep(60)", "sent nothing for 3 s, so it was given up"),
        (READY + "time.sleep(60)", "sent nothing for 1 s, so it was given up"),
        (READY + "say(ABOUT)\ntime.sleep(60)", "sent nothing for 1 s"),
        (READY + ENDLESS, "sent a line of more than 2 MB"),
        (ENDLESS, "sent a line of more than 2 MB"),
        ("while True: say(b'hello\\n')", "its shell prints at login without end"),
        (READY + "say(b'no json\\n')", "its answer to `describe` is malformed (no JSON)"),
        (READY + "say([1])", "its answer to `describe` is malformed (Input should be"),
        (READY + "say({'python': 'x'})", "is malformed"),
        (READY + "say(b'[' * 200000 + b'\\n')", "is malformed (no JSON)"),
        (READY + "say(b'\\xff\\xfe\\n')", "is malformed (no JSON)"),
        (READY + "say({**ABOUT, 'python': [3]})", "is malformed"),
        (READY + "say({**ABOUT, 'system': '\\x1b[2J'})", "is \\x1b[2J on x86_64"),
        (
            READY + "say({'refused': '\\x1b]0;owned\\x07 gone\\nedge-deploy: all is well'})",
            "\\x1b]0;owned\\x07 gone\\nedge",
        ),
        (READY + "talk(have={'missing': 3})", "its answer to `have` is malformed"),
        (READY + "talk(have={'missing': {'../../x': 0}})", "asks for files that it was not offered"),
        (READY + "talk(have={'missing': {'a': -1}})", "its answer to `have` is malformed"),
        (READY + "talk(environment={'made': False})", "its answer to `environment` is malformed"),
        (READY + "talk(run={'code': 0})", "its answer to `run` is malformed"),
        (READY + "ran(code=256)", "its answer to `run` is malformed"),
        (READY + "ran(output='[' * 100000)", "the command wrote no JSON"),
        (READY + "ran(output='no')", "the command wrote no JSON"),
    ],
)
def test_what_a_board_may_do_ends_in_one_line(board: Board, tmp_path: Path, body: str, said: str) -> None:
    board(body)
    started = time.monotonic()
    bad, good = run_on(["pi@bad", "good"], ["transcribe", "--json"], Console(quiet=True))
    assert time.monotonic() - started < 20
    assert (bad.code, bad.output) == (2, None)
    [line] = bad.messages
    assert said in line and line.startswith("--on: pi@bad: ") and line.isprintable()
    assert good.output == [{"file": "a", "text": "well"}]


def test_a_board_that_reads_nothing_is_given_up(board: Board, tmp_path: Path) -> None:
    """Its pipe is full, and what it says meanwhile does not count."""
    big = tmp_path / "big.wav"
    big.write_bytes(os.urandom(3_000_000))
    board(
        READY + "say(ABOUT)\nsys.stdin.buffer.readline()\nsay({})\nline = sys.stdin.buffer.readline()\n"
        "say({'missing': dict.fromkeys(json.loads(line)['files'], 0)})\ntime.sleep(60)"
    )
    [answer] = run_on(["pi@bad"], ["transcribe", big], Console(quiet=True))
    assert "took nothing for 1 s, so it was given up" in answer.messages[0]


def test_signs_of_life_are_waited_for(board: Board) -> None:
    board(
        READY + "import threading\n"
        "def beat():\n    while True:\n        time.sleep(0.3)\n        os.write(1, b'\\n')\n"
        "class Slow(dict):\n    def __getitem__(self, name):\n"
        "        time.sleep(2.5 if name == 'run' else 0)\n        return dict.__getitem__(self, name)\n"
        "say(ABOUT)\nthreading.Thread(target=beat, daemon=True).start()\n"
        "answers = Slow(GOOD, run=RAN)\n"
        "for line in sys.stdin.buffer:\n    if line.strip(): say(answers[json.loads(line)['do']])\n"
    )
    [answer] = run_on(["pi@slow"], ["transcribe", "--json"], Console(quiet=True))
    assert (answer.code, answer.output) == (0, [])


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ([{"txt": 1}], "its result is malformed (0.file: Field required)"),
        ([{"file": "a", "text": ["x"]}], "its result is malformed (0.text"),
        ({"a": 1}, "its result is malformed (all of it"),
        (7, "its result is malformed (all of it"),
    ],
)
def test_a_malformed_result_is_one_line(board: Board, tmp_path: Path, output: object, said: str) -> None:
    board(READY + f"ran(output={json.dumps(output)!r})")
    write_bundle(tmp_path / "w4")
    (tmp_path / "a.wav").touch()
    ran = CliRunner().invoke(app, ["transcribe", str(tmp_path / "w4"), str(tmp_path / "a.wav"), "--on", "pi@bad"])
    assert ran.exit_code == 2 and said in ran.stderr and ran.stdout == ""


def test_escapes_of_a_board_do_not_reach_the_terminal(board: Board, tmp_path: Path) -> None:
    rows = json.dumps([{"file": "a", "text": "\x1b[31mred\nedge-deploy: good"}])
    board(READY + f"ran(output={rows!r}, messages='\\x1b[2Jhi\\x9b0m')")
    write_bundle(tmp_path / "w4")
    (tmp_path / "a.wav").touch()
    # With colours, as on a terminal; else typer would drop what it takes for a colour.
    command = ["transcribe", str(tmp_path / "w4"), str(tmp_path / "a.wav"), "--on", "pi@bad"]
    ran = CliRunner().invoke(app, command, color=True)
    assert ran.stdout == "\\x1b[31mred\\nedge-deploy: good\n"
    assert "pi@bad: \\x1b[2Jhi\\x9b0m" in ran.stderr and "\x1b" not in ran.stderr


@pytest.mark.parametrize("command", ["evaluate", "bench"])
def test_a_malformed_measurement_is_one_line(board: Board, tmp_path: Path, command: str) -> None:
    import soundfile

    board(READY + "ran(output='{\"bundle\": 1}')")
    write_bundle(tmp_path / "w4")
    soundfile.write(tmp_path / "a.wav", [0.1] * 16_000, 16_000)
    (tmp_path / "speech.jsonl").write_text('{"audio": "a.wav", "text": "x", "id": "a"}\n')
    more = ["--lengths", "0.5"] if command == "bench" else []
    words = [command, str(tmp_path / "w4"), "--data", str(tmp_path / "speech.jsonl"), "--baseline", "none", *more]
    ran = CliRunner().invoke(app, [*words, "--on", "pi@bad"])
    assert ran.exit_code == 2 and "pi@bad: its result is malformed (" in ran.stderr, ran.output
