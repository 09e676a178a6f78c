"""Tensors of the front end and other float matrices as they are stored: float16, or int8 with a scale for each row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.quantized.inputs import SIGNED_TOP


def int8_rows(array: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Signed 8-bit codes, and one scale per entry of the first axis (shape (rows, 1, ...)): array ~ codes * scales."""
    axes = tuple(range(1, array.ndim))
    largest = np.maximum(np.abs(array).max(axis=axes, keepdims=True), np.float32(1e-20))
    scales = (largest / SIGNED_TOP).astype(np.float32)
    return np.rint(array / scales).astype(np.int8), scales


def narrow(array: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """The values that are left of `array` when it is stored in 8, 16 or 32 bits."""
    if bits == 8:
        codes, scales = int8_rows(array)
        return codes.astype(np.float32) * scales
    return array.astype(np.float16).astype(np.float32) if bits == 16 else array
