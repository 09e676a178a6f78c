"""Entries of the start-up cache: made once, noticed when damaged, never in the way."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asr_deploy.errors import Note
from edge_asr_deploy.runtime.startup import cache
from tests.support.killed import killed_at


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "startup"))
    return tmp_path / "startup"


class Maker:
    """Writes one file, and counts how often."""

    def __init__(self, content: bytes = b"content") -> None:
        self.content, self.times = content, 0

    def __call__(self, folder: Path) -> None:
        self.times += 1
        (folder / "file").write_bytes(self.content)


def made(maker: Callable[[Path], None], name: str = "kind/name", about: str = "this") -> Path:
    folder = cache.entry(name, about, maker)
    assert folder is not None
    return folder


def test_an_entry_is_made_once() -> None:
    maker = Maker()
    assert [(made(maker) / "file").read_bytes() for _ in range(3)] == [b"content"] * 3
    assert maker.times == 1


def test_an_entry_about_something_else_is_made_again() -> None:
    made(Maker(b"old"))
    assert (made(Maker(b"new"), about="that") / "file").read_bytes() == b"new"


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "file").write_bytes(b"cOntent"),
        lambda folder: (folder / "file").write_bytes(b"cont"),
        lambda folder: (folder / "file").unlink(),
        lambda folder: (folder / cache.INDEX).unlink(),
        lambda folder: (folder / cache.INDEX).write_bytes(b'{"about": "this", "fi'),
        lambda folder: (folder / cache.INDEX).write_text('{"about": "this", "files": {"file": 3}}'),
        lambda folder: (folder / cache.INDEX).write_text('["about", "this"]'),
    ],
    ids=["changed", "cut", "gone", "no index", "cut index", "odd index", "another index"],
)
def test_a_damaged_entry_is_made_again(damage: Callable[[Path], None]) -> None:
    damage(made(Maker()))
    maker = Maker()
    assert (made(maker) / "file").read_bytes() == b"content"
    assert maker.times == 1


def test_a_file_that_was_only_touched_is_read_and_kept() -> None:
    maker = Maker()
    os.utime(made(maker) / "file", (0, 0))
    before = cache.read_index(made(maker) / cache.INDEX)
    assert maker.times == 1
    assert before == cache.read_index(made(maker) / cache.INDEX)


def test_nothing_of_a_making_that_failed_is_left(root: Path) -> None:
    def fails(folder: Path) -> None:
        (folder / "file").write_bytes(b"half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.entry("kind/name", "this", fails)
    assert [*(root / "kind").iterdir()] == []


def test_makers_at_once_all_get_a_whole_entry(root: Path) -> None:
    barrier = threading.Barrier(6)

    def slow(folder: Path) -> None:
        barrier.wait()
        (folder / "file").write_bytes(b"x" * 100_000)

    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append((made(slow) / "file").read_bytes())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"x" * 100_000] * 6
    assert [path.name for path in (root / "kind").iterdir()] == ["name"]


@pytest.mark.parametrize("value", ["off", "0", "OFF"])
def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch, value: str, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(cache.VARIABLE, value)
    maker = Maker()
    assert cache.entry("kind/name", "this", maker) is None
    assert maker.times == 0
    assert [*tmp_path.iterdir()] == []


def test_a_place_that_cannot_be_written_means_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "occupied").write_text("a file")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "occupied" / "startup"))
    assert cache.entry("kind/name", "this", Maker()) is None


def test_without_a_variable_it_lies_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setenv("EDGE_ASR_CACHE", "/somewhere")
    assert cache.startup_root() == Path("/somewhere/startup")


def last_used(folder: Path, days: float) -> None:
    os.utime(folder / cache.INDEX, (time.time() - days * 24 * 3600,) * 2)


def test_beyond_the_limit_the_longest_unused_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    big = Maker(b"x" * 1000)
    folders = [made(big, f"kind/{name}") for name in "abc"]
    for days, folder in zip((3, 4, 2), folders, strict=True):
        last_used(folder, days)
    monkeypatch.setattr(cache, "LIMIT", 4000)
    newest = made(big, "kind/d")
    assert [folder.exists() for folder in (*folders, newest)] == [True, False, True, True]


def test_an_entry_above_the_limit_stays_while_it_is_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LIMIT", 10)
    assert made(Maker(b"x" * 1000)).exists()


def test_two_entries_that_do_not_fit_together_are_each_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An SD card wears out when every start writes 43 MB."""
    monkeypatch.setattr(cache, "LIMIT", 1500)
    makers = {name: Maker(b"x" * 1000) for name in "abc"}
    cache._say_full.cache_clear()
    with pytest.warns(Note, match="is full of bundles used within the hour, .* delete it, or give") as said:
        for _ in range(5):
            entries = {name: cache.entry(f"kind/{name}", "this", maker) for name, maker in makers.items()}
    assert len(said) == 1, "once in a process"
    assert {name: maker.times for name, maker in makers.items()} == {"a": 1, "b": 1, "c": 0}
    assert entries["c"] is None
    # An hour later the one that is no longer used makes room.
    assert entries["a"] is not None and entries["b"] is not None
    last_used(entries["a"], 1.1 / 24)
    last_used(entries["b"], 0.9 / 24)
    made(makers["b"], "kind/b")
    assert made(makers["c"], "kind/c").exists() and makers["b"].times == 1
    assert not entries["a"].exists() and entries["b"].exists()


def test_a_use_is_noted_twice_an_hour_and_the_index_is_not_written_for_it() -> None:
    folder = made(Maker())
    index = folder / cache.INDEX
    before = index.stat()
    for minutes, is_noted in ((10, False), (25, False), (40, True), (10_000, True)):
        last_used(folder, minutes / 24 / 60)
        made(Maker())
        assert (time.time() - index.stat().st_mtime < 60) == is_noted
    assert (index.stat().st_ino, index.stat().st_size) == (before.st_ino, before.st_size)


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_in_a_folder_that_others_may_write_each_user_has_a_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    root.mkdir()
    root.chmod(mode)
    folder = made(Maker())
    assert folder == root / f"user-{os.getuid()}" / "kind" / "name"
    assert folder.parent.parent.stat().st_mode & 0o777 == 0o700
    folder.parent.parent.chmod(0o777)
    assert cache.entry("kind/name", "this", Maker()) is None, "somebody may have changed it"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to another user")
@pytest.mark.parametrize("what", ["", "file", cache.INDEX])
def test_what_another_user_owns_is_not_used(what: str) -> None:
    maker = Maker()
    folder = made(maker)
    os.chown(folder / what, 12345, 12345)
    made(maker)
    assert maker.times == 2


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to another user")
def test_a_place_that_another_user_took_is_not_used(root: Path) -> None:
    root.mkdir()
    root.chmod(0o1777)
    (root / "user-0").mkdir()
    os.chown(root / "user-0", 12345, 12345)
    assert cache.entry("kind/name", "this", Maker()) is None


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_flipped_bit_of_an_entry_makes_it_anew(position: int, bit: int) -> None:
    folder = made(Maker(), "kind/flipped")
    files = [folder / "file", folder / cache.INDEX]
    path = files[position % 2]
    content = bytearray(path.read_bytes())
    content[position // 2 % len(content)] ^= 1 << bit
    path.write_bytes(content)
    assert (made(Maker(), "kind/flipped") / "file").read_bytes() == b"content"


def test_killed_at_any_step_the_next_start_has_a_whole_entry(root: Path) -> None:
    step, is_killed = 0, True
    while is_killed:
        name = f"kind/{step}"
        is_killed = killed_at(step, partial(cache.entry, name, "this", Maker(b"x" * 100)))
        assert (made(Maker(b"x" * 100), name) / "file").read_bytes() == b"x" * 100
        step += 1
    assert step > 5


def test_others_may_read_an_entry_as_the_umask_says() -> None:
    """A cache that is made while an image is built, and read by another user when it runs."""
    before = os.umask(0o022)
    try:
        folder = made(Maker(), "kind/modes")
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_what_a_killed_process_left_goes_after_a_day(root: Path) -> None:
    made(Maker())
    for name, age in (("half", 25), ("new", 1)):
        (root / "kind" / name).mkdir()
        os.utime(root / "kind" / name, (time.time() - age * 3600,) * 2)
    for name, age in ((".a.json.x.partial", 25), (".b.json.x.partial", 1)):
        (root / "kind" / name).touch()
        os.utime(root / "kind" / name, (time.time() - age * 3600,) * 2)
    for name, age in (("old", 25), ("young", 1)):
        left = root / "kind" / f".name.{name}"
        left.mkdir()
        os.utime(left, (time.time() - age * 3600,) * 2)
    made(Maker(), "kind/other")
    assert sorted(path.name for path in (root / "kind").iterdir()) == [
        ".b.json.x.partial",
        ".name.young",
        "name",
        "new",
        "other",
    ]
