"""The front end in PyTorch: stored narrow, without calibration, and computed on rounded windows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edge_asr_deploy.families import family
from edge_asr_deploy.ptq.activations import rounded
from edge_asr_deploy.quantized.inputs import Dynamic, InputRounding
from edge_asr_deploy.quantized.stem import narrow
from edge_asr_deploy.recipe.document import Recipe


def convolve(values: Tensor, module: nn.Conv1d, rounding: InputRounding) -> Tensor:
    """What the convolution computes, without its bias, on `values` (batch, channels, frames) rounded.

    With a scale for each row every window, all channels of some frames, is rounded on its own.
    """
    weight, stride, padding = module.weight.detach(), module.stride[0], int(module.padding[0])
    if isinstance(rounding, Dynamic):
        return nn.functional.conv1d(rounded(values, rounding), weight, None, stride, padding)
    windows = nn.functional.pad(values, (padding, padding)).unfold(2, module.kernel_size[0], stride).transpose(1, 2)
    return (rounded(windows.flatten(2), rounding) @ weight.flatten(1).T).transpose(1, 2)


def narrow_in_place(model: Any, components: dict[str, str], recipe: Recipe) -> None:
    """Give the model's stem and its 16-bit matrices the values they will be stored with, before anything is calibrated.

    `components`: module path -> component of every matrix, as `families` knows them.
    """
    chosen = {path: 16 for path, spec in recipe.specs(components).items() if spec.bits == 16}
    stems = {part.path: int(recipe.stem.bits) for part in family(recipe.family).stem}
    for path, bits in {**chosen, **stems}.items():
        weight = model.get_submodule(path).weight
        with torch.no_grad():
            weight.copy_(torch.from_numpy(narrow(weight.detach().numpy(), bits)))
