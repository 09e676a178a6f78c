"""A converted checkpoint appears all at once, once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_asr_deploy.cache import cache_root
from edge_asr_deploy.checkpoints.conversion import converted
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.sealing import SEAL

HASH = "0123456789abcdef" + "0" * 48


def write(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def never(folder: Path) -> None:
    raise AssertionError("converted twice")


def test_it_is_converted_once(cache: Path) -> None:
    folder = converted("tiny", HASH, write)
    assert folder == cache / "checkpoints" / "tiny-0123456789abcdef-v2"
    assert converted("tiny", HASH, never) == folder
    assert sorted(path.name for path in folder.iterdir()) == [SEAL, "config.json"]
    assert folder.stat().st_mode & 0o077 == 0o077 & ~current_umask()


@pytest.mark.parametrize("damage", ["changed", "added", "removed", "writable"])
def test_what_was_changed_since_is_converted_again(cache: Path, damage: str) -> None:
    """It counts as the weights of a pinned hash, so it must still be what they became."""
    folder = converted("tiny", HASH, write)
    before = (folder / "config.json").read_bytes()
    if damage == "changed":
        (folder / "config.json").write_text('{"model_type": "other"}')
    elif damage == "added":
        (folder / "generation_config.json").write_text("{}")
    elif damage == "removed":
        (folder / "config.json").unlink()
    else:
        folder.chmod(0o777)
    again = converted("tiny", HASH, write)
    assert (again / "config.json").read_bytes() == before
    assert sorted(path.name for path in again.iterdir()) == [SEAL, "config.json"]


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_conversion_that_fails_leaves_nothing(cache: Path) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        converted("tiny", HASH, fail)
    assert list((cache / "checkpoints").iterdir()) == []


def test_of_two_at_once_both_get_the_first_one(cache: Path) -> None:
    def overtaken(folder: Path) -> None:
        (folder / "config.json").write_text("late")
        converted("tiny", HASH, write)

    folder = converted("tiny", HASH, overtaken)
    assert (folder / "config.json").read_text() == "{}"
    assert list(folder.parent.iterdir()) == [folder]


def test_what_a_killed_process_left_is_removed_but_no_work_in_progress(cache: Path) -> None:
    dead, alive = (cache / "checkpoints" / f".{name}" for name in ("dead", "alive"))
    for folder in (dead, alive):
        folder.mkdir(parents=True)
    os.utime(dead, (0, 0))
    converted("tiny", HASH, write)
    assert alive.exists() and not dead.exists()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGE_ASR_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"EDGE_ASR_CACHE: .*file: cannot be written"):
        converted("tiny", HASH, write)


def test_a_full_disk_is_said_whoever_reports_it(cache: Path) -> None:
    def fill(folder: Path) -> None:
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(UserError, match=r"No space left on device.; free some space"):
        converted("tiny", HASH, fill)
    assert list((cache / "checkpoints").iterdir()) == []


def test_a_bug_in_a_conversion_is_not_blamed_on_the_cache() -> None:
    def fail(folder: Path) -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        converted("tiny", HASH, fail)


def test_without_the_variable_it_is_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_ASR_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "edge_asr_deploy"
