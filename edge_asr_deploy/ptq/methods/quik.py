"""QUIK (Ashkboos et al., arXiv 2310.09259): channels with outliers among their activations keep float weights."""

from __future__ import annotations

import torch
from torch import Tensor

from edge_asr_deploy.ptq.grid import Grid, fit
from edge_asr_deploy.ptq.methods.gptq import BLOCK, columns_to_codes, inverse_factor
from edge_asr_deploy.ptq.statistics import Statistics
from edge_asr_deploy.recipe.methods import QuikOptions
from edge_asr_deploy.recipe.weights import WeightSpec

# The last layer of an MLP, in both families.
LAST = ".fc2"


def quik(
    weight: Tensor, spec: WeightSpec, options: QuikOptions, statistics: Statistics, name: str = "weight"
) -> tuple[Grid, Tensor, Tensor, Tensor]:
    """Grid, codes (out, in) uint8, the float channels (k,) ascending, and their weights (out, k) in float16.

    Float channels are those with the largest calibrated |x|. They come last in GPTQ's order, so that their weights
    absorb the rounding errors of all other channels. Their codes are zero points, which stand for exactly 0, and the
    grid is fitted as if their weights were 0.
    """
    float_channels = outlier_channels(statistics.absmax, options.share)
    hessian = statistics.hessian
    diagonal = hessian.diagonal()
    rounded = weight.float().clone()
    rounded[:, float_channels] = 0
    grid = fit(rounded, spec.bits, spec.group_size, spec.symmetric, options.clip_steps, diagonal, name)
    priority = diagonal.clone()
    priority[float_channels] = -1
    order = torch.argsort(priority, descending=True, stable=True)
    factor = inverse_factor(hessian[order][:, order], options.damping).float()
    codes, rest = columns_to_codes(weight.float(), grid, factor, order, BLOCK, len(order) - len(float_channels))
    values = torch.empty(len(weight), len(float_channels), dtype=torch.float16)
    values[:, torch.searchsorted(float_channels, order[-len(float_channels) :])] = rest.to(torch.float16)
    return grid, codes, float_channels, values


def outlier_channels(absmax: Tensor, share: float) -> Tensor:
    """The channels with the largest values of `absmax` (in,), ascending: this share of them, at least one."""
    number = max(1, round(share * len(absmax)))
    return torch.topk(absmax, number).indices.sort().values


def spec_of(path: str, spec: WeightSpec) -> WeightSpec:
    """The spec of the layer at `path`: wider for the last layer of an MLP where QUIK's options say so."""
    options = spec.quantizer
    if not isinstance(options, QuikOptions) or options.last_bits is None or not path.endswith(LAST):
        return spec
    return spec.model_copy(update={"bits": max(spec.bits, options.last_bits)})
