"""Channels become one: their mean, and the loudest where they cancel each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from edge_asr_deploy.runtime.audio.mixing import mix
from edge_asr_deploy.runtime.audio.reading import read_audio


def noise(seed: int = 0, frames: int = 16_000) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).normal(size=frames) * 0.1).astype(np.float32)


@pytest.mark.parametrize("factor", [-1.0, -0.98, -0.9])
def test_an_inverted_channel_does_not_cancel_the_other(tmp_path: Path, factor: float) -> None:
    left = noise()
    soundfile.write(tmp_path / "a.wav", np.stack([left, factor * left], axis=1), 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), left)


def test_six_channels_of_which_two_cancel(tmp_path: Path) -> None:
    left = noise()
    silent = np.zeros_like(left)
    channels = np.stack([silent, left, silent, -left, silent, silent], axis=1)
    np.testing.assert_array_equal(mix(channels, 16_000), left)


@pytest.mark.parametrize(
    "second",
    [noise(1), noise(0), np.zeros(16_000, np.float32), 0.5 * noise(0), -0.3 * noise(0)],
    ids=["another", "the same", "silent", "softer", "softer and inverted"],
)
def test_ordinary_stereo_is_the_mean_to_the_last_bit(second: NDArray[np.float32]) -> None:
    channels = np.stack([noise(), second], axis=1)
    np.testing.assert_array_equal(mix(channels, 16_000), channels.mean(axis=1))


@pytest.mark.parametrize("number", [3, 6, 8])
def test_one_of_many_channels_is_the_mean(number: int) -> None:
    channels = np.zeros((16_000, number), np.float32)
    channels[:, number // 2] = noise()
    np.testing.assert_array_equal(mix(channels, 16_000), channels.mean(axis=1))


def test_a_speaker_with_an_inverted_microphone_is_heard_among_others() -> None:
    """Decided second by second: the first speaks on both channels, the second inverted on one."""
    first, second = noise(0, 32_000), noise(1, 48_000)
    channels = np.concatenate([np.stack([first, first], axis=1), np.stack([second, -second], axis=1)])
    np.testing.assert_array_equal(mix(channels, 16_000), np.concatenate([first, second]))


def test_silence_stays_silent() -> None:
    assert not mix(np.zeros((16_000, 2), np.float32), 16_000).any()
