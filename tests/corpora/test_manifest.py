"""Manifests: what a row may hold, and which row is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.errors import UserError
from tests.support.clips import sound, write_clips, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_clips(tmp_path / "set", 2)
    return tmp_path


def row(index: int = 0, **changes: Any) -> dict[str, Any]:
    return {"id": f"id{index}", "audio": f"set/clip{index}.flac", "text": "words", **changes}


def test_rows_become_utterances(folder: Path) -> None:
    rows = [row(0, speaker="s", duration=0.5, source="here", licence="CC0"), "", row(1, text=None)]
    first, second = read_manifest(write_manifest(folder / "m.jsonl", rows))
    assert (first.id, first.text, first.source, first.speaker, first.seconds) == ("id0", "words", "here", "s", 0.5)
    assert (second.text, second.source, second.speaker, second.seconds) == (None, "m", None, None)
    assert np.array_equal(second.samples(), sound(1))


def test_the_audio_path_alone_is_enough(folder: Path) -> None:
    (utterance,) = read_manifest(write_manifest(folder / "m.jsonl", [{"audio": "set/clip0.flac"}]))
    assert (utterance.id, utterance.text) == ("set/clip0.flac", None)


def test_absolute_paths_and_a_byte_order_mark_are_fine(folder: Path) -> None:
    path = write_manifest(folder / "m.jsonl", ["\ufeff" + f'{{"audio": "{folder / "set/clip0.flac"}"}}'])
    assert read_manifest(path)[0].audio == folder / "set/clip0.flac"


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("{'id': 1}", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ({"id": "x", "text": "y"}, "has no `audio`"),
        (row(1, audio=""), "has no `audio`"),
        (row(1, audio="set/gone.flac"), "gone.flac is missing"),
        (row(1, audio="set"), "set is missing"),
        (row(1, audio=3), "`audio` is 3, not a string"),
        (row(1, id="id0"), "'id0' stands in row 1"),
        (row(1, id=7.5), "`id` is 7.5, not a string"),
        (row(1, id=True), "`id` is true, not a string"),
        (row(1, id=[1]), "`id` is [1], not a string"),
        (row(1, text=["a"]), '`text` is ["a"], not a string'),
        (row(1, text=False), "`text` is false, not a string"),
        (row(1, duration="5"), '`duration` is "5", not a number'),
    ],
)
def test_a_broken_row_is_named(broken: Any, said: str, folder: Path) -> None:
    path = write_manifest(folder / "m.jsonl", [row(0), "", broken])
    with pytest.raises(UserError) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"manifest: {path}: row 3: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "has no rows"), (b"\n \n", "has no rows"), (b"\xff\xfe\xfd", "cannot be read as text")]
)
def test_an_unusable_file_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_manifest(tmp_path / "m.jsonl")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_manifest(tmp_path / "m.jsonl")
    with pytest.raises(UserError, match="cannot be read"):
        read_manifest(tmp_path)


def test_whole_numbers_are_names(folder: Path) -> None:
    rows = [row(0, id=0, source=17, speaker=3), row(1, id=12345678901234567890)]
    first, second = read_manifest(write_manifest(folder / "m.jsonl", rows))
    assert (first.id, first.source, first.speaker, second.id) == ("0", "17", "3", "12345678901234567890")


def test_a_number_and_the_same_text_are_one_name(folder: Path) -> None:
    with pytest.raises(UserError, match="'7' stands in row 1"):
        read_manifest(write_manifest(folder / "m.jsonl", [row(0, id=7), row(1, id="7")]))


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x1c", "\x0b", "\x0c"])
def test_a_line_ends_at_a_line_end_only(character: str, folder: Path) -> None:
    """JSON allows these inside a text, and Python's `splitlines` ends lines there."""
    text = f"two{character}lines"
    raw = json.dumps(row(0, text="TEXT"), ensure_ascii=False).replace("TEXT", text)
    # Control characters must be escaped in JSON; the others need not.
    raw = raw if character > "\x1f" else json.dumps(row(0, text=text))
    (folder / "m.jsonl").write_text(raw + "\r\n" + json.dumps(row(1)) + "\n", encoding="utf-8")
    first, second = read_manifest(folder / "m.jsonl")
    assert (first.text, second.id) == (text, "id1")


def test_missing_files_may_be_wanted(folder: Path) -> None:
    path = write_manifest(folder / "m.jsonl", [row(0), row(1, audio="set/gone.flac")])
    assert [utterance.audio.name for utterance in read_manifest(path, missing_too=True)] == ["clip0.flac", "gone.flac"]  # type: ignore[union-attr]


def test_a_row_that_is_nested_without_end_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text("[" * 200_000 + "]" * 200_000)
    with pytest.raises(UserError, match="row 1: is nested too deeply"):
        read_manifest(tmp_path / "m.jsonl")
