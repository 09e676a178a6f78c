"""One file per method; each a pure function of a weight, its inputs' statistics and a spec."""

from __future__ import annotations

from torch import Tensor

from edge_asr_deploy.ptq.grid import Grid
from edge_asr_deploy.ptq.methods.gptq import gptq
from edge_asr_deploy.ptq.methods.rtn import rtn
from edge_asr_deploy.recipe import GptqOptions, WeightSpec

__all__ = ["gptq", "needs_statistics", "round_weight", "rtn"]


def needs_statistics(spec: WeightSpec) -> bool:
    """True when rounding by this spec looks at the layer's inputs, hence needs calibration speech."""
    return spec.is_integer and (isinstance(spec.quantizer, GptqOptions) or spec.quantizer.weighted)


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
    return rtn(weight, spec, options, hessian, name)
