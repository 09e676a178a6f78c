"""Transcripts of the float model are kept between exports, by what was heard and under which circumstances."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_asr_deploy.ptq.calibration.transcripts import TokenCache

CLIP, OTHER = np.ones(10, np.float32), np.zeros(10, np.float32)


def test_what_was_saved_is_known_the_next_time(tmp_path: Path) -> None:
    cache = TokenCache(tmp_path, "weights", "en")
    cache.put(CLIP, [1, 2, 3])
    cache.save()
    again = TokenCache(tmp_path, "weights", "en")
    assert again.get(CLIP) == [1, 2, 3]
    assert again.get(OTHER) is None


def test_other_weights_or_another_language_know_nothing_of_it(tmp_path: Path) -> None:
    cache = TokenCache(tmp_path, "weights", "en")
    cache.put(CLIP, [1, 2, 3])
    cache.save()
    assert TokenCache(tmp_path, "weights", "de").get(CLIP) is None
    assert TokenCache(tmp_path, "others", "en").get(CLIP) is None


def test_a_broken_or_unwritable_file_is_no_error(tmp_path: Path) -> None:
    cache = TokenCache(tmp_path, "weights")
    cache.put(CLIP, [1])
    cache.save()
    (path,) = tmp_path.glob("calibration/*.json")
    path.write_text("not JSON")
    assert TokenCache(tmp_path, "weights").get(CLIP) is None
    (tmp_path / "file").touch()
    unwritable = TokenCache(tmp_path / "file", "weights")
    unwritable.put(CLIP, [1])
    unwritable.save()
    assert unwritable.get(CLIP) == [1]


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    cache = TokenCache(None)
    cache.put(CLIP, [1])
    cache.save()
    assert list(tmp_path.iterdir()) == []
