"""Samples that a program hands over, as the models need them: one channel, float32, full scale 1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.audio.mixing import mix

# 40 dB above full scale. Recorders of floats go some 20 dB beyond it; what is louder is no audio, or integers that were
# not divided.
LOUDEST = 100.0
# A table with more columns than this is not a recording with channels.
MOST_CHANNELS = 64
SCALED = "divide by the full scale (32768 for 16 bits)"
THING = "samples"
# Full scale by type of integer. uint8 has its silence at 128, and lists of integers become int64.
_FULL_SCALE = {
    np.dtype(np.uint8): 1 << 7,
    np.dtype(np.int8): 1 << 7,
    np.dtype(np.int16): 1 << 15,
    np.dtype(np.int32): 1 << 31,
    np.dtype(np.int64): 1 << 15,
}
# Samples that are looked at together: the processor's cache holds them.
BLOCK = 1 << 18


def peak(samples: NDArray[np.float32]) -> float:
    """The largest magnitude in samples of any shape, not empty; NaN if one of them is NaN."""
    return float(np.maximum(samples.max(), -samples.min()))


def as_samples(audio: ArrayLike) -> NDArray[np.float32]:
    """Samples (n,) as float32, full scale 1, from an array, a list or a tensor.

    Integers are scaled by their type: int16, int32, uint8 (128 is silence), and int64 as 16 bits, since lists become
    int64. Channels, (n, channels) or (channels, n), are mixed. UserError for everything else, for NaN and infinity, and
    for floats far beyond full scale.
    """
    if isinstance(audio, bytes | bytearray | memoryview):
        raise UserError(
            THING, type(audio).__name__, "give an array; np.frombuffer(data, np.int16) makes one of raw PCM"
        )
    try:
        array = np.asarray(audio)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(THING, type(audio).__name__, f"is not an array of numbers ({error})") from None
    mono = _one_channel(_full_scale_one(array))
    for start in range(0, len(mono), BLOCK):
        loudest = peak(mono[start : start + BLOCK])
        if not np.isfinite(loudest):
            raise UserError(THING, "NaN or infinite", "check the source of the audio")
        if loudest > LOUDEST:
            raise UserError(THING, f"reach {loudest:.6g}", f"full scale is 1; {SCALED}")
    return mono


def _full_scale_one(array: NDArray[Any]) -> NDArray[np.float32]:
    """Numbers of any type as float32."""
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind == "f":
        # A float64 beyond float32 becomes infinite, which is refused.
        with np.errstate(over="ignore"):
            return array.astype(np.float32, copy=False)
    if array.dtype not in _FULL_SCALE:
        raise UserError(THING, f"of type {array.dtype}", "give floats with full scale 1, int16 or int32")
    full_scale = np.float32(_FULL_SCALE[array.dtype])
    if array.dtype == np.int64 and array.size and max(int(array.max()), -int(array.min())) > full_scale:
        raise UserError(THING, "64-bit integers", "their full scale is not known; divide by it, or give int16 or int32")
    middle = np.float32(full_scale if array.dtype == np.uint8 else 0)
    scaled: NDArray[np.float32] = (array.astype(np.float32) - middle) / full_scale
    return scaled


def _one_channel(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """One channel of samples (n,), (n, channels) or (channels, n): the shorter axis has the channels."""
    if samples.ndim == 1:
        return samples
    if samples.ndim != 2 or min(samples.shape) > MOST_CHANNELS or not min(samples.shape):
        remedy = "give one recording: shape (samples,), (samples, channels) or (channels, samples)"
        raise UserError(THING, f"of shape {samples.shape}", remedy)
    frames = samples if samples.shape[0] > samples.shape[1] else samples.T
    return mix(np.ascontiguousarray(frames), 16_000)
