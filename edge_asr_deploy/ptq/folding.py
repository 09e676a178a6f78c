"""Exact folds: a scale per input channel of some layers, undone in the LayerNorm or Linear that feeds them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edge_asr_deploy.families import Step
from edge_asr_deploy.ptq.methods import choose_scales
from edge_asr_deploy.ptq.statistics import Statistics
from edge_asr_deploy.recipe.methods import AwqOptions
from edge_asr_deploy.recipe.weights import WeightSpec


def is_foldable(model: Any, step: Step) -> bool:
    """True when a scale per input channel of the step's layers can be undone in what feeds them.

    Not behind an activation, and not where heads of values are shared (grouped queries): they have fewer channels than
    the output projection reads.
    """
    if step.norm is not None:
        return True
    if step.source is None:
        return False
    rows: int = model.get_submodule(step.source).out_features
    columns: int = model.get_submodule(step.paths[0]).in_features
    return rows >= columns


def fold(model: Any, step: Step, scales: Tensor) -> None:
    """Multiply the step's input channels by `scales` (in,), positive, and divide what feeds them: an exact identity.

    ValueError when nothing that feeds the step can take the scales.
    """
    if not is_foldable(model, step):
        raise ValueError(f"{step.paths[0]}: nothing before it can take a scale")
    with torch.no_grad():
        if step.norm is not None:
            _divide(model.get_submodule(step.norm), scales)
        elif step.source is not None:
            _divide(model.get_submodule(step.source), scales)
        for path in step.paths:
            model.get_submodule(path).weight.mul_(scales)


def is_shiftable(model: Any, step: Step) -> bool:
    """True when the step's inputs can be shifted: by the bias of their LayerNorm, made up for by the layers' own.

    A key projection needs none: what shifts all keys alike changes no attention.
    """
    if step.norm is None or model.get_submodule(step.norm).bias is None:
        return False
    return all(path.endswith(".k_proj") or model.get_submodule(path).bias is not None for path in step.paths)


def shift(model: Any, step: Step, shifts: Tensor) -> None:
    """Subtract `shifts` (in,) from the step's inputs and add what the layers make of them: an exact identity.

    As OmniQuant does (arXiv 2308.13137, equation 3). ValueError where biases are missing.
    """
    if step.norm is None or not is_shiftable(model, step):
        raise ValueError(f"{step.paths[0]}: no biases that could take a shift")
    with torch.no_grad():
        model.get_submodule(step.norm).bias.sub_(shifts)
        for path in step.paths:
            linear = model.get_submodule(path)
            if linear.bias is not None:
                linear.bias.add_(linear.weight @ shifts)


def is_scaled(model: Any, step: Step, spec: WeightSpec) -> bool:
    """True when the spec's method scales the inputs of this step: SmoothQuant only behind a LayerNorm."""
    if spec.scaling is None or not is_foldable(model, step):
        return False
    return step.norm is not None or isinstance(spec.scaling, AwqOptions)


def scale(model: Any, step: Step, found: Statistics, spec: WeightSpec) -> Tensor:
    """Choose scales (in,) for the step's input channels by the spec's method, fold them, and return them."""
    if spec.scaling is None:
        raise ValueError(f"{step.paths[0]}: the spec scales nothing")
    weight = torch.cat([model.get_submodule(path).weight.detach() for path in step.paths])
    scales = choose_scales(weight, found, spec, spec.scaling, " / ".join(step.paths))
    fold(model, step, scales)
    return scales


def _divide(producer: nn.Module, scales: Tensor) -> None:
    """The first channels that a LayerNorm or Linear gives, divided by their scales."""
    weight, bias = producer.weight, producer.bias
    number = len(scales)
    assert isinstance(weight, Tensor)
    weight[:number].div_(scales if weight.ndim == 1 else scales[:, None])
    if isinstance(bias, Tensor):
        bias[:number].div_(scales)
