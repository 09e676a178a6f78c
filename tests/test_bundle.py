"""A bundle appears all at once, or not at all, and knows when a byte of it changed."""

from __future__ import annotations

import errno
import os
import shutil
import time
from functools import partial
from pathlib import Path

import pytest

from edge_asr_deploy.bundle import writer
from edge_asr_deploy.bundle.manifest import (
    CARD,
    MANIFEST,
    bundle_hash,
    own_files,
    read_manifest,
)
from edge_asr_deploy.bundle.verification import verify
from edge_asr_deploy.bundle.writer import BundleWriter
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.evaluation.size import size_of
from tests.support.killed import killed_at
from tests.support.small_bundles import FILES, NEW, manifest, write


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_committed_bundle_verifies_and_reads_back_equal(tmp_path: Path) -> None:
    written = write(tmp_path / "new" / "tiny", {**FILES, "onnx/extra.bin": b"nested"})
    assert verify(tmp_path / "new" / "tiny") == read_manifest(tmp_path / "new" / "tiny") == written
    assert written.files["onnx/extra.bin"].size == 6
    assert MANIFEST not in written.files
    assert names(tmp_path / "new") == {"tiny"}


def test_nothing_is_visible_before_the_commit(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "tiny") as writer:
        (writer.folder / "config.json").write_text("{}")
        assert not (tmp_path / "tiny").exists()
        assert writer.folder.name.startswith(".tiny.partial-")
    assert names(tmp_path) == set()


@pytest.mark.parametrize("error", [RuntimeError("bug"), KeyboardInterrupt(), SystemExit(1)])
def test_an_interrupted_overwrite_leaves_the_old_bundle_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    old = write(tmp_path / "tiny")
    with pytest.raises(type(error)), BundleWriter(tmp_path / "tiny", overwrite=True) as writer:
        (writer.folder / "config.json").write_text("half")
        raise error
    assert names(tmp_path) == {"tiny"}
    assert verify(tmp_path / "tiny") == old


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError(f"I/O error: {os.strerror(errno.ENOSPC)} (os error 28)"),
    ],
    ids=["from Python", "from a library that only says so"],
)
def test_a_full_disk_is_one_clear_line(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(UserError, match="disk full") as caught, BundleWriter(tmp_path / "tiny"):
        raise error
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == set()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_really_full_keeps_the_old_bundle(tmp_path: Path) -> None:
    old = write(tmp_path / "tiny")
    with pytest.raises(UserError, match="disk full"), BundleWriter(tmp_path / "tiny", overwrite=True) as writer:
        os.symlink("/dev/full", writer.folder / "encoder_model.onnx")
        (writer.folder / "encoder_model.onnx").write_bytes(b"x" * 100_000)
    assert names(tmp_path) == {"tiny"}
    assert verify(tmp_path / "tiny") == old


def test_an_existing_output_is_refused_before_any_work(tmp_path: Path) -> None:
    write(tmp_path / "tiny")
    with pytest.raises(UserError, match="--overwrite"):
        BundleWriter(tmp_path / "tiny")


def test_an_output_that_appears_meanwhile_is_not_lost(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--overwrite"), BundleWriter(tmp_path / "tiny") as writer:
        (tmp_path / "tiny").mkdir()
        (tmp_path / "tiny" / "precious").touch()
        writer.commit(manifest())
    assert names(tmp_path / "tiny") == {"precious"}


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_overwrite_replaces_bundles_only(tmp_path: Path, kind: str) -> None:
    (tmp_path / "home").mkdir() if kind == "folder" else (tmp_path / "home").touch()
    with pytest.raises(UserError, match="not a bundle"):
        BundleWriter(tmp_path / "home", overwrite=True)


def test_overwrite_replaces_the_whole_bundle(tmp_path: Path) -> None:
    write(tmp_path / "tiny", {**FILES, "vocab.json": b"{}", "onnx/extra.bin": b"nested"})
    write(tmp_path / "tiny", NEW, overwrite=True)
    assert names(tmp_path) == {"tiny"}
    assert names(tmp_path / "tiny") == {*NEW, MANIFEST}
    verify(tmp_path / "tiny")


def test_overwrite_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    write(tmp_path / "tiny")
    (tmp_path / "link").symlink_to(tmp_path / "tiny")
    write(tmp_path / "link", {"config.json": b"new"}, overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "tiny" / "config.json").read_bytes() == b"new"


def test_a_failing_rename_restores_the_old_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write(tmp_path / "tiny")
    real_rename = os.rename
    monkeypatch.setattr("edge_asr_deploy.bundle.writer.exchange", lambda first, second: False)

    def rename(source: Path, target: Path) -> None:
        if ".partial-" in source.name:
            raise OSError(errno.EIO, "I/O error")
        real_rename(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError, match="I/O error"):
        write(tmp_path / "tiny", {"config.json": b"new"}, overwrite=True)
    assert names(tmp_path) == {"tiny"}
    assert verify(tmp_path / "tiny") == old


def test_what_killed_writers_left_is_removed_but_not_what_a_live_one_is_writing(tmp_path: Path) -> None:
    """Process ids do not tell them apart: in containers every writer may have the same."""
    left = [tmp_path / name for name in (".tiny.partial-0", ".tiny.partial-1234", ".tiny.old-ab", ".tiny.new-0")]
    young = tmp_path / ".tiny.new-1"
    for folder in (*left, young):
        folder.mkdir()
        (folder / "half").touch()
    os.utime(left[-1], (time.time() - 100,) * 2)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / MANIFEST).write_text("{}")
    with BundleWriter(tmp_path / "tiny", overwrite=True) as alive:
        (alive.folder / "half").touch()
        write(tmp_path / "tiny", overwrite=True)
        assert names(tmp_path) == {"tiny", alive.folder.name, young.name}
        assert "half" not in names(tmp_path / "tiny")


def test_of_two_writers_at_once_the_later_one_is_told_so(tmp_path: Path) -> None:
    """Two containers, each with process id 1, export to one folder."""
    with BundleWriter(tmp_path / "tiny") as first:
        (first.folder / "config.json").write_text("first")
        with BundleWriter(tmp_path / "tiny") as second:
            (second.folder / "config.json").write_text("second")
            first.commit(manifest())
            with pytest.raises(UserError, match="exists already"):
                second.commit(manifest())
    assert names(tmp_path) == {"tiny"}
    assert (tmp_path / "tiny" / "config.json").read_text() == "first"


def replace(destination: Path, exchanges: bool) -> None:
    if not exchanges:
        writer.exchange = lambda first, second: False
    write(destination, NEW, overwrite=True)


@pytest.mark.parametrize("exchanges", [True, False])
def test_killed_at_any_step_a_writer_loses_nothing(tmp_path: Path, exchanges: bool) -> None:
    """With names exchanged there is a bundle at every moment; without, the next export puts the old one back."""
    step, is_killed = 0, True
    while is_killed:
        folder = tmp_path / str(step)
        old = write(folder / "tiny")
        visited(folder / "tiny")
        is_killed = killed_at(step, partial(replace, folder / "tiny", exchanges))
        step += 1
        if exchanges or (folder / "tiny").exists():
            assert (verify(folder / "tiny") == old) or (folder / "tiny" / "config.json").read_bytes() == b"new"
        for left in folder.glob(".tiny.new-*"):
            os.utime(left, (time.time() - 100,) * 2)
        write(folder / "tiny", overwrite=True)
        verify(folder / "tiny")
        assert names(folder) == {"tiny"}
        assert {".git", "notes.md"} <= names(folder / "tiny")
    assert step > 10


def test_a_writer_killed_between_its_two_renames_loses_nothing(tmp_path: Path) -> None:
    old = write(tmp_path / "tiny")
    (tmp_path / "tiny").rename(tmp_path / ".tiny.old-12ab")
    with pytest.raises(UserError, match="--overwrite"):
        write(tmp_path / "tiny")
    assert names(tmp_path) == {"tiny"}
    assert verify(tmp_path / "tiny") == old


def test_an_output_below_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "file" / "tiny")


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_any_changed_byte_is_found_and_its_file_named(tmp_path: Path, name: str) -> None:
    write(tmp_path / "tiny")
    path = tmp_path / "tiny" / name
    original = path.read_bytes()
    for position in {0, len(original) // 3, len(original) - 1}:
        path.write_bytes(original[:position] + bytes([original[position] ^ 1]) + original[position + 1 :])
        with pytest.raises(UserError, match=name):
            verify(tmp_path / "tiny")
    path.write_bytes(original)
    verify(tmp_path / "tiny")


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize("damage", ["one byte more", "one byte less", "gone"])
def test_extra_and_missing_bytes_and_files_are_found(tmp_path: Path, name: str, damage: str) -> None:
    write(tmp_path / "tiny")
    path = tmp_path / "tiny" / name
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(content + b" " if damage == "one byte more" else content[:-1])
    with pytest.raises(UserError, match=name):
        verify(tmp_path / "tiny")


@pytest.mark.parametrize("name", ["tokenizer.json", "added_tokens.json", "vocab.json"])
def test_an_extra_file_that_engines_would_read_is_found(tmp_path: Path, name: str) -> None:
    write(tmp_path / "tiny")
    (tmp_path / "tiny" / name).touch()
    with pytest.raises(UserError, match=rf"{name}.*not in the manifest"):
        verify(tmp_path / "tiny")


def visited(folder: Path) -> None:
    """What a Hub download, Git and a Mac leave in a folder, and a person's notes."""
    for name in (".cache/huggingface/download/config.json.lock", ".git/HEAD", "onnx/notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    for name in (".gitattributes", ".DS_Store", "._config.json", "notes.md"):
        (folder / name).touch()


@pytest.mark.parametrize("edit", [None, "# My own words\n"])
def test_what_others_leave_in_the_folder_and_the_card_do_not_count(tmp_path: Path, edit: str | None) -> None:
    written = write(tmp_path / "tiny", {**FILES, CARD: b"# Card"})
    visited(tmp_path / "tiny")
    (tmp_path / "tiny" / CARD).unlink() if edit is None else (tmp_path / "tiny" / CARD).write_text(edit)
    assert verify(tmp_path / "tiny") == written
    own = {MANIFEST, *FILES} | ({CARD} if edit else set())
    assert {*own_files(tmp_path / "tiny")} == own
    size = size_of(tmp_path / "tiny")
    assert size.onnx == 2100
    assert size.other == sum((tmp_path / "tiny" / name).stat().st_size for name in own if ".onnx" not in name)


def test_overwrite_keeps_what_is_no_part_of_the_bundle(tmp_path: Path) -> None:
    write(tmp_path / "tiny", {**FILES, "onnx/extra.bin": b"nested", CARD: b"# Card"})
    visited(tmp_path / "tiny")
    write(tmp_path / "tiny", {"config.json": b"new"}, overwrite=True)
    kept = {".cache", ".git", ".gitattributes", ".DS_Store", "._config.json", "notes.md"}
    assert names(tmp_path / "tiny") == {"config.json", MANIFEST} | kept
    assert (tmp_path / "tiny" / ".git" / "HEAD").is_file()


def test_what_is_no_part_of_the_bundle_survives_a_killed_writer(tmp_path: Path) -> None:
    write(tmp_path / "tiny")
    visited(tmp_path / "tiny")
    (tmp_path / "tiny").rename(tmp_path / ".tiny.old-12ab")
    write(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").rename(tmp_path / "tiny")
    write(tmp_path / "tiny", overwrite=True)
    assert names(tmp_path) == {"tiny"} and ".git" in names(tmp_path / "tiny")


def test_what_is_no_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match="edge-deploy export"):
            verify(folder)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"schema_version":2', '"schema_version":3', "schema_version"),
        ('"encoder":"encoder_model.onnx"', '"encoder":"../x/encoder_model.onnx"', "targets.generic.encoder"),
        ('"encoder":"encoder_model.onnx"', '"encoder":"/x/encoder_model.onnx"', "targets.generic.encoder"),
        ('"decoder":"decoder_model_merged.onnx"', '"decoder":"a\\\\b.onnx"', "targets.generic.decoder"),
        ('"files":{', '"files":{"../config.json":{"sha256":"0","size":1}', "files"),
        ('"files":{', '"files":{"a//b":{"sha256":"0","size":1}', "files"),
        ('"family":"whisper"', '"family":"vosk"', "family"),
    ],
)
def test_a_manifest_that_says_something_else_names_the_key(tmp_path: Path, old: str, new: str, named: str) -> None:
    text = manifest().model_dump_json()
    assert old in text
    (tmp_path / MANIFEST).write_text(text.replace(old, new))
    with pytest.raises(UserError, match=named):
        read_manifest(tmp_path)


def test_the_hash_follows_the_contents_and_not_the_folder(tmp_path: Path) -> None:
    first = write(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert bundle_hash(verify(tmp_path / "b")) == bundle_hash(first)
    assert bundle_hash(write(tmp_path / "c", {**FILES, "config.json": b"[]"})) != bundle_hash(first)
    later = manifest().model_copy(update={"created": "2026-01-01T00:00:00+00:00", "files": first.files})
    assert bundle_hash(later) == bundle_hash(first)
