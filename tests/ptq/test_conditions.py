"""Calibration speech in hard conditions: how many clips, what becomes of them, always the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_asr_deploy.corpora.utterance import SAMPLE_RATE
from edge_asr_deploy.ptq.calibration.conditions import BAND, harder
from tests.support.voice import voice

Samples = NDArray[np.float32]


def readers(number: int) -> list[Callable[[], Samples]]:
    clips = [voice(0.6 + 0.1 * index, index) for index in range(number)]
    return [lambda clip=clip: clip for clip in clips]  # type: ignore[misc]


def changed(number: int, share: float, seed: int = 0) -> list[bool]:
    clips = readers(number)
    return [not np.array_equal(harder(clips, index, share, seed), clips[index]()) for index in range(number)]


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("number", [1, 5, 12])
def test_that_share_of_the_clips_is_changed(number: int, share: float) -> None:
    assert sum(changed(number, share)) == int(number * share)


def test_none_is_changed_without_being_asked_and_the_first_only_with_all() -> None:
    assert changed(6, 0.0) == [False] * 6
    assert changed(6, 0.5) == [False, True] * 3
    assert changed(6, 1.0) == [True] * 6


@pytest.mark.parametrize("index", range(8))
def test_a_clip_keeps_its_length_and_range_and_sounds_the_same_every_time(index: int) -> None:
    clips = readers(8)
    once, again = (harder(clips, index, 1.0, 3) for _ in range(2))
    assert once.dtype == np.float32
    assert len(once) == len(clips[index]())
    assert np.abs(once).max() <= 1
    assert np.isfinite(once).all()
    assert np.array_equal(once, again)


def test_another_seed_is_another_noise() -> None:
    clips = readers(2)
    assert not np.array_equal(harder(clips, 0, 1.0, 0), harder(clips, 0, 1.0, 1))


def test_four_conditions_take_turns() -> None:
    """Of a tone all four are known by their spectrum: voices, noise between, fading after an end, nothing beyond."""
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    high = np.sin(2 * np.pi * 5000 * time) * (time < 0.5)
    clips = [lambda: (0.1 * high).astype(np.float32) for _ in range(4)]
    _, noise, room, telephone = (harder(clips, index, 1.0, 0) for index in range(4))
    spectrum = np.abs(np.fft.rfft(telephone))
    assert spectrum[int(BAND[1]) + 1 :].max() < 1e-2 * np.abs(np.fft.rfft(noise)).max()
    rest = slice(int(0.55 * SAMPLE_RATE), int(0.6 * SAMPLE_RATE))
    assert np.std(room[rest]) > 10 * np.std(room[-800:])
    assert np.std(noise[rest]) == pytest.approx(np.std(noise[-800:]), rel=0.5)


def test_silence_and_a_single_clip_are_no_trouble() -> None:
    clips: list[Callable[[], Samples]] = [lambda: np.zeros(SAMPLE_RATE, np.float32)] * 4
    for index in range(4):
        assert np.isfinite(harder(clips, index, 1.0, 0)).all()
    assert len(harder(readers(1), 0, 1.0, 0)) == len(readers(1)[0]())
