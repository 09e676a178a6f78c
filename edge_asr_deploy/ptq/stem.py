"""What is stored narrow without calibration: the stem (convolutions, positional tables) and matrices in float16."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_asr_deploy.recipe import Recipe

STEMS = {
    "whisper": (
        "model.encoder.conv1",
        "model.encoder.conv2",
        "model.encoder.embed_positions",
        "model.decoder.embed_positions",
    ),
    "moonshine": ("model.encoder.conv1", "model.encoder.conv2", "model.encoder.conv3"),
}


def convolutions(family: str) -> tuple[str, ...]:
    """The module paths of a family's front-end convolutions."""
    return tuple(path for path in STEMS[family] if ".conv" in path)


def float_bits(recipe: Recipe) -> int:
    """Width of the small matrices that must stay float: float16, but float32 where the stem is."""
    return max(16, recipe.stem.bits)


def int8_rows(array: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Signed 8-bit codes, and one scale per entry of the first axis (shape (rows, 1, ...)): array ~ codes * scales."""
    axes = tuple(range(1, array.ndim))
    largest = np.maximum(np.abs(array).max(axis=axes, keepdims=True), np.float32(1e-20))
    scales = (largest / 127).astype(np.float32)
    return np.rint(array / scales).astype(np.int8), scales


def narrow(array: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """The values that are left of `array` when it is stored in 8, 16 or 32 bits."""
    if bits == 8:
        codes, scales = int8_rows(array)
        return codes.astype(np.float32) * scales
    return array.astype(np.float16).astype(np.float32) if bits == 16 else array


def narrow_in_place(model: Any, components: dict[str, str], recipe: Recipe) -> None:
    """Give the model's stem and its 16-bit matrices the values they will be stored with, before anything is calibrated.

    `components`: module path -> component of every matrix, as `families` knows them.
    """
    chosen = {path: 16 for path, spec in recipe.specs(components).items() if spec.bits == 16}
    stems = dict.fromkeys(STEMS[recipe.family], int(recipe.stem.bits))
    for path, bits in {**chosen, **stems}.items():
        weight = model.get_submodule(path).weight
        with torch.no_grad():
            weight.copy_(torch.from_numpy(narrow(weight.detach().numpy(), bits)))
