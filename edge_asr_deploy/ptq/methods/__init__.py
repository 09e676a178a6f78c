"""Quantization methods, one file each: pure functions of a weight, its inputs' statistics and a spec or options."""

from __future__ import annotations

import torch
from torch import Tensor

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.ptq.grid import Grid
from edge_asr_deploy.ptq.learning.reconstruction import Learned, Part, Site, layer_error
from edge_asr_deploy.ptq.methods.awq import awq
from edge_asr_deploy.ptq.methods.gptq import gptq
from edge_asr_deploy.ptq.methods.omniquant import omniquant
from edge_asr_deploy.ptq.methods.qep import bias_change, qep
from edge_asr_deploy.ptq.methods.quik import quik
from edge_asr_deploy.ptq.methods.rsq import importance
from edge_asr_deploy.ptq.methods.rtn import rtn
from edge_asr_deploy.ptq.methods.smoothquant import smoothquant
from edge_asr_deploy.ptq.methods.spqr import spqr
from edge_asr_deploy.ptq.methods.tesseraq import tesseraq
from edge_asr_deploy.ptq.statistics import Statistics
from edge_asr_deploy.recipe.methods import (
    AwqOptions,
    GptqOptions,
    OmniQuantOptions,
    RotationOptions,
    RtnOptions,
    SmoothQuantOptions,
    TesseraqOptions,
)
from edge_asr_deploy.recipe.weights import WeightSpec

__all__ = [
    "awq",
    "bias_change",
    "choose_scales",
    "gptq",
    "importance",
    "learn",
    "needs_statistics",
    "omniquant",
    "qep",
    "quik",
    "round_weight",
    "rtn",
    "smoothquant",
    "spqr",
    "tesseraq",
]

# A layer outside all blocks is learned in parts of this many rows, which do not influence each other.
ROWS = 4096


def needs_statistics(spec: WeightSpec) -> bool:
    """True when this spec's method needs statistics of the layer's inputs, and therefore calibration speech."""
    if not spec.is_integer:
        return False
    prepares = any(not isinstance(step, RotationOptions) for step in spec.steps)
    return prepares or not isinstance(spec.quantizer, RtnOptions) or spec.quantizer.weighted


def choose_scales(
    weight: Tensor,
    statistics: Statistics,
    spec: WeightSpec,
    options: SmoothQuantOptions | AwqOptions,
    name: str = "weight",
) -> Tensor:
    """Scales (in,) for the input channels of a matrix (out, in) by the method that the options name."""
    if isinstance(options, AwqOptions):
        return awq(weight, statistics, spec, options, name)
    return smoothquant(weight, statistics, options)


def round_weight(
    weight: Tensor, spec: WeightSpec, hessian: Tensor | None = None, name: str = "weight"
) -> tuple[Grid, Tensor]:
    """Grid and codes (out, in), uint8, of a matrix (out, in) by the method that its spec names.

    Rows do not influence each other, so matrices that share an input may be stacked along their rows.
    """
    options = spec.quantizer
    if isinstance(options, GptqOptions):
        if hessian is None:
            raise ValueError(f"{name}: gptq needs the Hessian of its inputs")
        return gptq(weight, spec, options, hessian, name)
    if isinstance(options, RtnOptions):
        return rtn(weight, spec, options, hessian, name)
    if isinstance(options, OmniQuantOptions | TesseraqOptions):
        if hessian is None:
            raise ValueError(f"{name}: {options.method} needs the Hessian of its inputs")
        return _learn_alone(weight, spec, hessian, name)
    raise ValueError(f"{options.method} does not round one matrix at a time")


def learn(part: Part, spec: WeightSpec) -> Learned:
    """Learn the rounding of a part of a block by the method that its spec names.

    UserError for activations that are not finite.
    """
    if not all(bool(site.hessian.isfinite().all()) for site in part.sites):
        raise UserError(
            "calibration", "activations that are not finite", "leave out the broken clip or check the model"
        )
    if isinstance(spec.quantizer, OmniQuantOptions):
        return omniquant(part, spec, spec.quantizer)
    if isinstance(spec.quantizer, TesseraqOptions):
        return tesseraq(part, spec, spec.quantizer)
    raise ValueError(f"{spec.quantizer.method} does not learn")


def _learn_alone(weight: Tensor, spec: WeightSpec, hessian: Tensor, name: str) -> tuple[Grid, Tensor]:
    """Learn a layer outside all blocks on its own output error, some rows at a time to bound the memory."""
    grids, codes = [], []
    for rows in torch.split(weight.detach().float(), ROWS):
        matrices = {f"{name}.weight": rows}
        part = Part(matrices, (Site((name,), hessian),), layer_error(matrices, hessian))
        grid, chosen = learn(part, spec).rounded[name]
        grids.append(grid)
        codes.append(chosen)
    scales, zero_points = torch.cat([g.scales for g in grids]), torch.cat([g.zero_points for g in grids])
    return Grid(scales, zero_points, spec.bits, spec.group_size), torch.cat(codes)
