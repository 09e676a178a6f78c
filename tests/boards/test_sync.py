"""Files reach a board whole or not at all, once, and go on where they were cut off."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from pathlib import Path

import pytest

from edge_asr_deploy.boards import ssh
from edge_asr_deploy.boards.ssh import Board, Connection
from edge_asr_deploy.boards.sync import files_of, hashes, synchronize
from edge_asr_deploy.errors import UserError
from tests.support.loopback import Loopback, files_there

SIZE = 3_000_000


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    path = tmp_path / "weights.onnx"
    path.write_bytes(os.urandom(SIZE))
    return path


def copy(board: Loopback, path: Path) -> int:
    with Connection(Board.parse(board.address)) as connection:
        return synchronize(connection, hashes([path]))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_only_what_is_missing_is_copied(board: Loopback, there: Path, payload: Path) -> None:
    assert copy(board, payload) == SIZE
    assert files_there(there) == {f"files/{sha256(payload)}"}
    assert sha256(there / "files" / sha256(payload)) == sha256(payload)
    assert copy(board, payload) == 0


def test_what_changed_on_the_board_is_copied_again(board: Loopback, there: Path, payload: Path) -> None:
    copy(board, payload)
    kept = there / "files" / sha256(payload)
    kept.write_bytes(b"?" * SIZE)
    assert copy(board, payload) == SIZE
    assert sha256(kept) == kept.name


def test_a_cut_connection_resumes(board: Loopback, there: Path, payload: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "CHUNK", 1 << 16)
    known = hashes([payload])
    with (
        pytest.raises(UserError, match=r"cut.*run the command again"),
        Connection(Board.parse(board.address)) as connection,
    ):
        connection.ask("have", files={known[payload]: SIZE})
        partial, sent = there / "files" / f"{known[payload]}.partial", 0

        def cut(size: int) -> None:
            nonlocal sent
            sent += size
            if sent > 2_000_000:
                # What was sent may still be on its way.
                until = time.monotonic() + 20
                while not (partial.exists() and partial.stat().st_size) and time.monotonic() < until:
                    time.sleep(0.05)
                connection._process.kill()

        connection.put(payload, known[payload], 0, cut)
    left = files_there(there)
    assert left == {f"files/{known[payload]}.partial"}, "it has no name of its own yet"
    assert 0 < copy(board, payload) < SIZE, "the rest is enough"
    assert files_there(there) == {f"files/{known[payload]}"}
    assert sha256(there / "files" / known[payload]) == known[payload]


def test_a_beginning_of_something_else_is_dropped(board: Loopback, there: Path, payload: Path) -> None:
    (there / "files").mkdir(parents=True)
    (there / "files" / f"{sha256(payload)}.partial").write_bytes(b"?" * 1000)
    copy(board, payload)
    assert files_there(there) == {f"files/{sha256(payload)}"}


@pytest.fixture
def small_disk(board: Loopback, tmp_path: Path) -> Path:
    """A board whose cache is a disk of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    board.environment(XDG_CACHE_HOME=str(disk))
    return disk


def test_a_full_disk_there(board: Loopback, small_disk: Path, payload: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.write_bytes(os.urandom(600_000))
    try:
        with pytest.raises(UserError, match=r"disk is full .*1 MB free, 3 MB needed"):
            copy(board, payload)
        assert copy(board, few) == 600_000
        # What no run has asked for since makes room.
        other = tmp_path / "other"
        other.write_bytes(os.urandom(700_000))
        assert copy(board, other) == 700_000
        assert files_there(small_disk / "edge-deploy") == {f"files/{sha256(other)}"}
        # A disk that fills up meanwhile.
        with (
            pytest.raises(UserError, match="disk is full"),
            Connection(Board.parse(board.address)) as connection,
        ):
            connection.ask("have", files={})
            connection.put(payload, sha256(payload), 0)
        assert files_there(small_disk / "edge-deploy") == {f"files/{sha256(other)}"}
    finally:
        subprocess.run(["umount", str(small_disk)], check=True)


def test_a_folder_keeps_its_names(tmp_path: Path) -> None:
    (tmp_path / "bundle" / "more").mkdir(parents=True)
    for name in ("a.onnx", "more/b.json"):
        (tmp_path / "bundle" / name).touch()
    files = files_of(tmp_path / "bundle", "1")
    assert files.path == "1/bundle"
    assert set(files.contents) == {"1/bundle/a.onnx", "1/bundle/more/b.json"}
    with pytest.raises(UserError, match="no such file"):
        files_of(tmp_path / "absent.wav", "1")
