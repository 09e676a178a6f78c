"""Long audio is cut where it is quiet; silence is known as such."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_asr_deploy.runtime.audio.windows import Clip, batches, cut, is_silent

Noise = Callable[..., NDArray[np.float32]]


def test_what_fits_is_not_cut(noise: Noise) -> None:
    sound = noise(30)
    [window] = cut(sound, 30)
    assert window.samples is sound


def test_the_cut_is_in_the_pause(noise: Noise) -> None:
    sound = noise(40)
    sound[16_000 * 23 : 16_000 * 23 + 8_000] *= 0.01
    first, second = cut(sound, 30)
    assert 23 < len(first.samples) / 16_000 < 23.5
    np.testing.assert_array_equal(np.concatenate([first.samples, second.samples]), sound)


def test_a_pause_early_in_the_window_is_left_alone(noise: Noise) -> None:
    sound = noise(40)
    sound[16_000 * 5 : 16_000 * 6] = 0
    assert len(cut(sound, 30)[0].samples) >= 20 * 16_000


@pytest.mark.parametrize("seconds", [30.01, 31, 59, 61, 200])
def test_windows_are_short_enough_and_lose_nothing(noise: Noise, seconds: float) -> None:
    sound = noise(seconds)
    windows = cut(sound, 30)
    assert max(len(window.samples) for window in windows) <= 30 * 16_000
    assert min(len(window.samples) for window in windows) >= 16_000
    np.testing.assert_array_equal(np.concatenate([window.samples for window in windows]), sound)


def test_a_window_knows_when_it_was(noise: Noise) -> None:
    _, second = cut(noise(40), 30)
    assert second.time(1.5) == pytest.approx(40 - len(second.samples) / 16_000 + 1.5)


def test_times_of_joined_pieces_are_those_of_the_recording() -> None:
    clip = Clip(np.zeros(3 * 16_000, np.float32), ((0, 16_000), (16_000, 160_000)))
    assert [clip.time(seconds) for seconds in (0.0, 0.5, 1.0, 2.5)] == [1.0, 1.5, 10.0, 11.5]


@pytest.mark.parametrize(("peak", "silent"), [(0.0, True), (3.1e-4, True), (3.2e-4, False)])
def test_silence_is_below_minus_70_decibels(peak: float, silent: bool) -> None:
    samples = np.zeros(16_000, np.float32)
    samples[500] = -peak
    assert is_silent(samples) is silent


def test_nothing_is_silence() -> None:
    assert is_silent(np.zeros(0, np.float32))


@given(lengths=st.lists(st.integers(1, 30), max_size=20), size=st.integers(1, 6), first_alone=st.booleans())
def test_batches_hold_every_window_once_beside_others_of_its_length(
    lengths: list[int], size: int, first_alone: bool
) -> None:
    groups = batches(lengths, size, first_alone)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    assert all(0 < len(group) <= size for group in groups)
    if first_alone and lengths:
        assert groups.pop(0) == [0]
    numbers = [len(group) for group in groups]
    assert max(numbers, default=0) - min(numbers, default=0) <= 1
    ordered = [lengths[index] for group in groups for index in group]
    assert ordered == sorted(ordered)
