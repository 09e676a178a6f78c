"""What is stored narrow without calibration: the stem (convolutions, positional tables) and matrices in float16."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_asr_deploy.families.structure import LOWEST
from edge_asr_deploy.ptq.activations import by_token, rounded
from edge_asr_deploy.quantized.weight import Activation
from edge_asr_deploy.recipe.document import Recipe

STEMS = {
    "whisper": (
        "model.encoder.conv1",
        "model.encoder.conv2",
        "model.encoder.embed_positions",
        "model.decoder.embed_positions",
    ),
    "moonshine": ("model.encoder.conv1", "model.encoder.conv2", "model.encoder.conv3"),
}
# Convolutions that read a waveform: too little to multiply.
WAVEFORM = {"whisper": (), "moonshine": ("model.encoder.conv1",)}
# Those that read what GELU gives.
AFTER_GELU = {"whisper": "model.encoder.conv2", "moonshine": "model.encoder.conv3"}


def convolutions(family: str) -> tuple[str, ...]:
    """The module paths of a family's front-end convolutions."""
    return tuple(path for path in STEMS[family] if ".conv" in path)


def rounding(recipe: Recipe) -> dict[str, Activation]:
    """How the convolutions that multiply integers round what they read, by module path."""
    kind, after_gelu = recipe.stem.activations, AFTER_GELU[recipe.family]
    if kind == "float":
        return {}
    if kind == "int8-dynamic":
        return dict.fromkeys(convolutions(recipe.family), Activation("int8-dynamic"))
    paths = [path for path in convolutions(recipe.family) if path not in WAVEFORM[recipe.family]]
    return {path: by_token(LOWEST["gelu"] if path == after_gelu else None) for path in paths}


def convolve(values: Tensor, module: nn.Conv1d, activation: Activation) -> Tensor:
    """What the convolution computes, without its bias, on `values` (batch, channels, frames) rounded.

    With `int8-token` every window, all channels of some frames, has its own scale.
    """
    weight, stride, padding = module.weight.detach(), module.stride[0], int(module.padding[0])
    if activation.kind == "int8-dynamic":
        return nn.functional.conv1d(rounded(values, activation), weight, None, stride, padding)
    windows = nn.functional.pad(values, (padding, padding)).unfold(2, module.kernel_size[0], stride).transpose(1, 2)
    return (rounded(windows.flatten(2), activation) @ weight.flatten(1).T).transpose(1, 2)


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
