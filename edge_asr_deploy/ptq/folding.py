"""Exact folds: layers get a scale per input channel, and the LayerNorm or Linear that feeds them undoes it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edge_asr_deploy.families import SharedInput
from edge_asr_deploy.ptq.methods import choose_scales
from edge_asr_deploy.ptq.statistics import Statistics
from edge_asr_deploy.recipe.methods import AwqOptions
from edge_asr_deploy.recipe.weights import WeightSpec


def is_foldable(model: Any, shared: SharedInput) -> bool:
    """True when a scale per input channel can be undone in the layer that feeds these layers.

    This is impossible behind an activation function, and where heads share their values (grouped queries): the value
    projection then has fewer channels than the output projection reads.
    """
    if shared.norm is not None:
        return True
    if shared.source is None:
        return False
    rows: int = model.get_submodule(shared.source).out_features
    columns: int = model.get_submodule(shared.paths[0]).in_features
    return rows >= columns


def fold(model: Any, shared: SharedInput, scales: Tensor) -> None:
    """Multiply the layers' input channels by positive `scales` (in,) and divide what feeds them: an exact identity.

    ValueError when nothing that feeds the layers can take the scales.
    """
    if not is_foldable(model, shared):
        raise ValueError(f"{shared.paths[0]}: nothing before it can take a scale")
    with torch.no_grad():
        if shared.norm is not None:
            _divide(model.get_submodule(shared.norm), scales)
        elif shared.source is not None:
            _divide(model.get_submodule(shared.source), scales)
        for path in shared.paths:
            model.get_submodule(path).weight.mul_(scales)


def is_shiftable(model: Any, shared: SharedInput) -> bool:
    """True when the input can be shifted by the bias of its LayerNorm, and the layers' own biases can undo the shift.

    A key projection needs no bias: a shift of all keys alike changes no attention.
    """
    if shared.norm is None or model.get_submodule(shared.norm).bias is None:
        return False
    return all(path.endswith(".k_proj") or model.get_submodule(path).bias is not None for path in shared.paths)


def shift(model: Any, shared: SharedInput, shifts: Tensor) -> None:
    """Subtract `shifts` (in,) from the input and add the layers' outputs for them to the biases: an exact identity.

    As OmniQuant does (arXiv 2308.13137, equation 3). ValueError where biases are missing.
    """
    if shared.norm is None or not is_shiftable(model, shared):
        raise ValueError(f"{shared.paths[0]}: no biases that could take a shift")
    with torch.no_grad():
        model.get_submodule(shared.norm).bias.sub_(shifts)
        for path in shared.paths:
            linear = model.get_submodule(path)
            if linear.bias is not None:
                linear.bias.add_(linear.weight @ shifts)


def is_scaled(model: Any, shared: SharedInput, spec: WeightSpec) -> bool:
    """True when the spec's method scales this input: SmoothQuant does so only behind a LayerNorm."""
    if spec.scaling is None or not is_foldable(model, shared):
        return False
    return shared.norm is not None or isinstance(spec.scaling, AwqOptions)


def scale(model: Any, shared: SharedInput, statistics: Statistics, spec: WeightSpec) -> Tensor:
    """Choose scales (in,) for the input channels by the spec's method, fold them, and return them."""
    if spec.scaling is None:
        raise ValueError(f"{shared.paths[0]}: the spec scales nothing")
    weight = torch.cat([model.get_submodule(path).weight.detach() for path in shared.paths])
    scales = choose_scales(weight, statistics, spec, spec.scaling, " / ".join(shared.paths))
    fold(model, shared, scales)
    return scales


def _divide(producer: nn.Module, scales: Tensor) -> None:
    """The first channels that a LayerNorm or Linear gives, divided by their scales."""
    weight, bias = producer.weight, producer.bias
    number = len(scales)
    assert isinstance(weight, Tensor)
    weight[:number].div_(scales if weight.ndim == 1 else scales[:, None])
    if isinstance(bias, Tensor):
        bias[:number].div_(scales)
