"""Files appear all at once or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from edge_asr_deploy.cache import cache_root
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.files import appearing, require_writable, write_atomically, write_output


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


def test_an_output_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for path, said in (
        (tmp_path, "is a folder"),
        (tmp_path / "absent" / "x.json", "its folder does not exist"),
        (tmp_path / "file" / "x.json", "is a file, not a folder"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            require_writable("--output", path)
        assert caught.value.thing == "--output" and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="is a file, not a folder"):
        require_writable("--output", tmp_path / "file" / "more" / "x.json", makes_folders=True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="no permission"):
        require_writable("--output", tmp_path / "x.json")


def test_an_output_that_can_be_written_is_let_pass(tmp_path: Path) -> None:
    (tmp_path / "old.json").touch()
    for path in (None, tmp_path / "old.json", tmp_path / "new.json", Path("new.json"), Path(os.devnull)):
        require_writable("--output", path)
    require_writable("--output", tmp_path / "a" / "b" / "x.json", makes_folders=True)


def test_what_is_no_file_is_written_to_and_stays_what_it_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_output("--output", pipe, "grün")
        assert os.read(reader, 100) == "grün".encode()
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_without_a_home_the_cache_lies_among_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user id without an entry in passwd. Others may write there, so the user gets a folder."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("EDGE_ASR_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert cache_root() == tmp_path / f"edge_asr_deploy-{os.getuid()}"
    (tmp_path / f"edge_asr_deploy-{os.getuid()}").mkdir()
    (tmp_path / f"edge_asr_deploy-{os.getuid()}").chmod(0o777)
    assert cache_root() == tmp_path / f"edge_asr_deploy-{os.getuid()}" / f"user-{os.getuid()}"
