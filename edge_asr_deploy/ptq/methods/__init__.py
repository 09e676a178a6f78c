"""One file per method; each a pure function of a weight, its inputs' statistics and a spec or options."""

from __future__ import annotations

from torch import Tensor

from edge_asr_deploy.options import AwqOptions, GptqOptions, RotationOptions, RtnOptions, SmoothQuantOptions
from edge_asr_deploy.ptq.grid import Grid
from edge_asr_deploy.ptq.methods.awq import awq
from edge_asr_deploy.ptq.methods.gptq import gptq
from edge_asr_deploy.ptq.methods.qep import qep
from edge_asr_deploy.ptq.methods.rsq import importance
from edge_asr_deploy.ptq.methods.rtn import rtn
from edge_asr_deploy.ptq.methods.smoothquant import smoothquant
from edge_asr_deploy.ptq.statistics import Statistics
from edge_asr_deploy.recipe import WeightSpec

__all__ = [
    "awq",
    "choose_scales",
    "gptq",
    "importance",
    "needs_statistics",
    "qep",
    "round_weight",
    "rtn",
    "smoothquant",
]


def needs_statistics(spec: WeightSpec) -> bool:
    """True when quantizing by this spec looks at the layer's inputs, hence needs calibration speech."""
    steps = [step for step in spec.steps if not isinstance(step, RotationOptions)]
    looks = bool(steps) or not isinstance(spec.quantizer, RtnOptions) or spec.quantizer.weighted
    return spec.is_integer and looks


def choose_scales(
    weight: Tensor,
    found: Statistics,
    spec: WeightSpec,
    options: SmoothQuantOptions | AwqOptions,
    name: str = "weight",
) -> Tensor:
    """Scales (in,) for the input channels of a matrix (out, in) by the method that the options name."""
    if isinstance(options, AwqOptions):
        return awq(weight, found, spec, options, name)
    return smoothquant(weight, found, options)


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
    raise ValueError(f"{options.method} does not round one matrix at a time")
