"""AWQ (Lin et al., arXiv 2306.00978): input channels that carry much signal are scaled up before rounding."""

from __future__ import annotations

import torch
from torch import Tensor

from edge_asr_deploy.ptq.methods.rtn import rtn
from edge_asr_deploy.ptq.statistics import Statistics
from edge_asr_deploy.recipe.methods import AwqOptions, RtnOptions
from edge_asr_deploy.recipe.weights import WeightSpec

# Channels weaker than this share of the mean are treated as this strong: a dead channel would get the scale 0.
WEAKEST = 1e-4


def awq(weight: Tensor, statistics: Statistics, spec: WeightSpec, options: AwqOptions, name: str = "weight") -> Tensor:
    """Scales (in,) of a matrix (out, in): s = mean|X|^a with the best a from 0 (no scaling) to 1.

    The best a has the least squared output error over all calibration positions, after rounding to nearest on the grid
    of the spec's quantizer. Matrices that share an input are stacked along their rows: their errors add up.
    """
    hessian = statistics.hessian
    best, least = torch.ones(weight.shape[1]), float("inf")
    for alpha in torch.linspace(0, 1, options.grid).tolist():
        scales = candidate(statistics.magnitude, alpha)
        loss = scaled_loss(weight, scales, hessian, spec, name)
        if loss < least:
            best, least = scales, loss
    return best


def candidate(magnitude: Tensor, alpha: float) -> Tensor:
    """magnitude^alpha (in,), normalized so that its largest and smallest value are each other's inverse."""
    mean = magnitude.mean()
    if mean <= 0:
        return torch.ones_like(magnitude)
    scales = (magnitude / mean).clamp(min=WEAKEST) ** alpha
    return scales / (scales.max() * scales.min()).sqrt()


def scaled_loss(weight: Tensor, scales: Tensor, hessian: Tensor, spec: WeightSpec, name: str = "weight") -> float:
    """tr(D H' D^T), D the rounding error of W * s and H' = H / (s s^T) the Hessian of the inputs x / s."""
    scaled, metric = weight.float() * scales, hessian / torch.outer(scales, scales)
    options = spec.quantizer
    nearest = options
    if not isinstance(nearest, RtnOptions):
        steps, clip = getattr(options, "clip_steps", 0), getattr(options, "clip", "mse")
        nearest = RtnOptions(clip_steps=steps, clip=clip, weighted=True)
    grid, codes = rtn(scaled, spec, nearest, metric, name)
    difference = scaled - grid.decode(codes)
    return float(((difference @ metric.float()) * difference).sum(dtype=torch.float64))
