"""Samples from programs: integers are scaled, lists converted, channels mixed, and what is no audio is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.audio.samples import as_samples

CODES = np.random.default_rng(0).integers(-(2**15), 2**15, 16_000).astype(np.int16)
FLOATS: NDArray[np.float32] = (CODES / 32_768).astype(np.float32)


@pytest.mark.parametrize(
    "audio",
    [
        CODES,
        CODES.astype(np.int32) << 16,
        CODES.astype(np.int64),
        CODES.tolist(),
        CODES.astype(">i2"),
        FLOATS,
        FLOATS.astype(np.float64),
        FLOATS.tolist(),
        tuple(FLOATS.tolist()),
        FLOATS[:, None],
        FLOATS[None],
        np.stack([FLOATS, FLOATS], axis=1),
        np.stack([FLOATS, FLOATS]),
        np.stack([FLOATS, -FLOATS]),
        np.stack([CODES, CODES]),
    ],
    ids=lambda audio: f"{type(audio).__name__} {getattr(audio, 'dtype', '')} {np.shape(audio)}",
)
def test_the_same_samples_in_any_form(audio: Any) -> None:
    samples = as_samples(audio)
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, FLOATS)


def test_bytes_have_their_silence_at_128() -> None:
    np.testing.assert_array_equal(as_samples(np.array([0, 128, 192], np.uint8)), np.float32([-1, 0, 0.5]))
    np.testing.assert_array_equal(as_samples(np.array([-128, 0, 64], np.int8)), np.float32([-1, 0, 0.5]))


def test_float32_is_not_copied_and_no_sample_gives_none() -> None:
    assert as_samples(FLOATS) is FLOATS
    assert as_samples([]).shape == (0,)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (FLOATS * 32_767, r"reach 3.*full scale is 1; divide by the full scale \(32768"),
        (FLOATS.astype(np.float64) * 1e300, "NaN or infinite"),
        (np.full(16_000, np.nan), "NaN or infinite"),
        ([0.0, float("inf")], "NaN or infinite"),
        (CODES.astype(np.int64) * 65_536, "64-bit integers"),
        (CODES > 0, "of type bool"),
        (FLOATS.astype(np.complex64), "of type complex64"),
        (None, "of type object"),
        (["a.wav", "b.wav"], "of type <U5"),
        (b"RIFF", r"np\.frombuffer"),
        ([[1.0, 2.0], [3.0]], "is not an array of numbers"),
        (FLOATS[None, None], r"of shape \(1, 1, 16000\)"),
        (np.zeros((100, 100)), r"of shape \(100, 100\)"),
        (np.zeros((0, 2)), r"of shape \(0, 2\)"),
        (np.float32(0), r"of shape \(\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_audio_is_refused_in_one_sentence(audio: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"samples: .*{message}") as error:
        as_samples(audio)
    assert "\n" not in str(error.value)


def test_a_tensor_is_an_array() -> None:
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(as_samples(torch.tensor(FLOATS)), FLOATS)
