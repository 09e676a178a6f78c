"""Texts kept between runs."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from edge_asr_deploy.harness.evaluation.transcripts import Text, TranscriptCache, default_root
from edge_asr_deploy.runtime.session import SessionSettings

TEXT = Text("some words", tokens=2, windows=1, hit_length_cap=False)


def cache(
    root: Path, bundle: str = "b", threads: int = 2, level: int | None = None, language: str = "en"
) -> TranscriptCache:
    return TranscriptCache(root, bundle, SessionSettings(threads=threads, accuracy_level=level), {"language": language})


def test_a_text_is_found_again(tmp_path: Path) -> None:
    cache(tmp_path).put("fingerprint", TEXT)
    assert cache(tmp_path).get("fingerprint") == TEXT
    assert cache(tmp_path).get("other") is None


@pytest.mark.parametrize("change", [{"bundle": "c"}, {"threads": 1}, {"level": 1}, {"language": "de"}])
def test_whatever_can_change_a_text_has_its_own_place(tmp_path: Path, change: dict[str, str | int]) -> None:
    cache(tmp_path).put("fingerprint", TEXT)
    assert cache(tmp_path, **change).get("fingerprint") is None  # type: ignore[arg-type]


def test_another_onnxruntime_has_its_own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache(tmp_path).put("fingerprint", TEXT)
    monkeypatch.setattr(onnxruntime, "__version__", "0.0.1")
    assert cache(tmp_path).get("fingerprint") is None


def test_a_text_under_another_name_counts_as_none(tmp_path: Path) -> None:
    cache(tmp_path).put("one", TEXT)
    [path] = tmp_path.rglob("one.json")
    path.rename(path.with_name("two.json"))
    assert cache(tmp_path).get("two") is None


def test_a_broken_entry_counts_as_none(tmp_path: Path) -> None:
    cache(tmp_path).put("fingerprint", TEXT)
    (entry,) = tmp_path.rglob("fingerprint.json")
    entry.write_text(entry.read_text()[:-5])
    assert cache(tmp_path).get("fingerprint") is None


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    unusable = cache(tmp_path / "file")
    unusable.put("fingerprint", TEXT)
    assert unusable.get("fingerprint") is None


def test_the_place_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ASR_CACHE", "/somewhere")
    assert default_root() == Path("/somewhere/transcripts")
    monkeypatch.delenv("EDGE_ASR_CACHE")
    assert default_root() == Path.home() / ".cache" / "edge_asr_deploy" / "transcripts"
