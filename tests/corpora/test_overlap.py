"""What is calibrated on is not evaluated on."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_asr_deploy.corpora.overlap import refuse_overlap
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError
from tests.support.clips import sound, write_clips


def clips(seeds: list[int]) -> list[Utterance]:
    return [Utterance(f"clip{seed}", sound(seed, 0.1), None, "test") for seed in seeds]


def test_different_speech_is_accepted() -> None:
    refuse_overlap(clips([1, 2]), clips([3, 4]))


def test_the_same_recording_is_named_whatever_it_is_called_and_however_it_is_cut(tmp_path: Path) -> None:
    (path,) = write_clips(tmp_path, 1, first=3)
    with pytest.raises(UserError, match="calibration: mine: is in the evaluation set"):
        refuse_overlap([*clips([1]), Utterance("mine", path, None, "x").cut(0.2)], [Utterance("e", sound(3), "t", "y")])


def test_of_many_the_first_are_named() -> None:
    with pytest.raises(UserError, match="clip0, clip1, clip2 and 2 more"):
        refuse_overlap(clips([0, 1, 2, 3, 4]), clips([4, 3, 2, 1, 0]))
