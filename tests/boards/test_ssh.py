"""Connections to a board, and what goes wrong with them: one line each, and nothing is left there."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from edge_asr_deploy.boards.environment import check_board
from edge_asr_deploy.boards.ssh import Board, Connection
from edge_asr_deploy.errors import UserError
from tests.support.loopback import Loopback


@pytest.mark.parametrize(
    ("text", "destination", "port"),
    [
        ("pi@raspberrypi", "pi@raspberrypi", None),
        ("pi@10.0.0.5:2222", "pi@10.0.0.5", 2222),
        ("kitchen", "kitchen", None),
        ("pi@[fe80::1%eth0]:22", "pi@fe80::1%eth0", 22),
        ("pi@2001:db8::1", "pi@2001:db8::1", None),
        ("::1", "::1", None),
        ("pi@fe80::1%eth0", "pi@fe80::1%eth0", None),
        ("pi@2001:db8:0:0:0:0:0:22", "pi@2001:db8:0:0:0:0:0:22", None),
    ],
)
def test_addresses(text: str, destination: str, port: int | None) -> None:
    assert Board.parse(text) == Board(destination, port, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pi@",
        "a b",
        "pi@host:",
        "pi@host:0",
        "pi@host:99999",
        "-oProxy=x",
        "a;b",
        "pi@host:22:23",
        "a@b@::1",
        "-o@::1",
        "pi@2001:db8::zz",
        "pi@::1\n",
    ],
)
def test_what_is_no_address_never_reaches_ssh(text: str) -> None:
    with pytest.raises(UserError, match=r"is not an address.*\[IPv6\]"):
        Board.parse(text)


def test_a_board_says_what_it_is(board: Loopback, there: Path) -> None:
    with Connection(Board.parse(board.address)) as connection:
        assert check_board(connection) == f"linux_{os.uname().machine}"
    assert not there.exists(), "asking leaves nothing behind"


def fault(address: str) -> str:
    with pytest.raises(UserError) as caught, Connection(Board.parse(address)) as connection:
        check_board(connection)
    assert (caught.value.thing, caught.value.value) == ("--on", address)
    assert "\n" not in str(caught.value)
    return caught.value.remedy


def test_a_host_without_ssh_is_unreachable(board: Loopback) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert "no SSH server listens on this port" in fault(f"pi@127.0.0.1:{bound.getsockname()[1]}")


def test_a_name_without_a_host(board: Loopback) -> None:
    assert "there is no host of this name" in fault("pi@board.invalid")


def test_a_wrong_key(board: Loopback, there: Path) -> None:
    config = (board.folder / "config").read_text()
    board.configure(config.replace("/key", "/other"))
    assert "it accepts none of your keys" in fault(board.address)
    assert not there.exists()


def test_an_unknown_host_key_is_not_accepted(board: Loopback) -> None:
    (board.folder / "known").write_text("")
    assert "host key is not known" in fault(board.address)
    assert (board.folder / "known").read_text() == "", "nor is it learnt"


def test_a_changed_host_key(board: Loopback) -> None:
    other = (board.folder / "other.pub").read_text()
    (board.folder / "known").write_text(f"[127.0.0.1]:{board.port} {other}")
    assert "its host key has changed" in fault(board.address)


def test_no_python(board: Loopback, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    board.environment(PATH=str(tmp_path / "empty"))
    assert "no python3; install Python 3.11" in fault(board.address)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.version_info = (3, 9, 2)", "its python3 is 3.9"),
        ("import sys; sys.modules['ensurepip'] = None", "apt install python3-venv"),
        ("import platform; platform.machine = lambda: 'armv7l'", "64-bit Linux"),
        ("import struct; struct.calcsize = lambda format: 4", "32 bits"),
        ("import platform; platform.machine = lambda: 'riscv64'", "riscv64"),
    ],
)
def test_a_board_that_bundles_do_not_run_on(
    board: Loopback, tmp_path: Path, there: Path, code: str, message: str
) -> None:
    board.environment(XDG_CACHE_HOME=str(tmp_path / "board"), PYTHONPATH=board.python(code))
    assert message in fault(board.address)
    assert not there.exists()


def test_a_shell_that_greets_is_no_hindrance(board: Loopback) -> None:
    with (board.folder / "environment").open("a") as file:
        file.write("echo 'Welcome to the kitchen'\n")
    with Connection(Board.parse(board.address)) as connection:
        assert connection.about["bits"] == 64


def test_two_runs_do_not_share_a_board(board: Loopback) -> None:
    with Connection(Board.parse(board.address)) as first, Connection(Board.parse(board.address)) as second:
        first.ask("have", files={})
        with pytest.raises(UserError, match="another run is using"):
            second.ask("have", files={})
