"""The numpy log-mel is Transformers' log-mel, faster."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_asr_deploy.runtime.audio.features import LogMel

Noise = Callable[..., NDArray[np.float32]]


def reference(samples: NDArray[np.float32], mel_bins: int = 80) -> Any:
    transformers = pytest.importorskip("transformers")
    extractor = transformers.WhisperFeatureExtractor(feature_size=mel_bins)
    return extractor(samples, sampling_rate=16_000, return_tensors="np").input_features


@pytest.mark.parametrize("mel_bins", [80, 128])
@pytest.mark.parametrize("samples", [1, 150, 400, 1_600, 47_999, 479_750, 480_000])
def test_noise_of_any_length_gives_the_same_features(noise: Noise, samples: int, mel_bins: int) -> None:
    sound = noise(samples / 16_000)
    features = LogMel(mel_bins)(sound)
    assert features.dtype == np.float32 and features.shape == (1, mel_bins, 3000)
    np.testing.assert_allclose(features, reference(sound, mel_bins), atol=1e-5)


def test_sound_with_silence_around_it_keeps_the_dynamic_range(noise: Noise) -> None:
    sound = np.concatenate([np.zeros(16_000, np.float32), noise(1), np.zeros(16_000, np.float32)])
    np.testing.assert_allclose(LogMel()(sound), reference(sound), atol=1e-5)


def test_faint_sound_lies_on_the_floor(noise: Noise) -> None:
    sound = noise(1) * 1e-4
    np.testing.assert_allclose(LogMel()(sound), reference(sound), atol=1e-4)


@pytest.mark.real
def test_real_speech_gives_the_same_features(real_speech: list[NDArray[np.float32]]) -> None:
    for samples in real_speech:
        np.testing.assert_allclose(LogMel()(samples[:480_000]), reference(samples[:480_000]), atol=1e-4)


def test_ten_seconds_take_less_than_ten_milliseconds(noise: Noise) -> None:
    log_mel, sound = LogMel(), noise(10)

    def seconds() -> float:
        started = perf_counter()
        log_mel(sound)
        return perf_counter() - started

    assert min(seconds() for _ in range(20)) < 0.010
