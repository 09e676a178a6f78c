"""Files appear all at once or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.files import appearing, write_atomically, write_output


@pytest.mark.parametrize("content", ["grün\n", b"\x00\xff"])
def test_what_was_written_is_read(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "new" / "file"
    write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o007, 0o660)])
def test_the_users_umask_decides_who_may_read_it(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_a_file_that_is_there_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "file").touch(mode=0o600)
    write_atomically(tmp_path / "file", "x")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_the_content_is_never_readable_by_more(tmp_path: Path) -> None:
    """Not even while it is written."""
    (tmp_path / "file").touch(mode=0o600)
    with appearing(tmp_path / "file") as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600


def test_a_failure_leaves_the_old_contents_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"--output: .*file: cannot be written \(No space left on device\)"):
        write_output("--output", path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_what_can_be_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "below", tmp_path):
        with pytest.raises(UserError, match="--junit"):
            write_output("--junit", place, "x")
