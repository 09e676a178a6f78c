"""Grids of two levels: the scales of a channel's groups are small whole multiples of one float scale.

(code - zero point) * multiplier then fits int8: codes of few bits unpack to an ordinary 8-bit per-channel matrix, which
integer kernels take. The constraint enters before anything is rounded, so that every method rounds on the final grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edge_asr_deploy.ptq.grid import Grid, fit
from edge_asr_deploy.recipe.methods import Clip
from edge_asr_deploy.recipe.weights import WeightSpec

LOWEST, HIGHEST = -128, 127
# Base scales tried, as factors of the smallest with which no group's product leaves int8. Smaller ones cut the widest
# group's range; larger ones make the multipliers of all other groups coarser. Measured on the 33792 output channels of
# Whisper tiny.en's blocks (4 bits, group:16, clip_steps 10), by counting which factor gave a channel the least error:
# 0.0, 1.8, 40.9, 27.7, 16.0, 7.9, 3.8 and 1.9 %. All of them together leave 1.8 % less squared error than 1.0 alone.
FACTORS = (0.8, 0.9, 1.0, 1.06, 1.12, 1.2, 1.3, 1.4)
SMALLEST_FLOAT16 = 2.0**-24


def fit_for(
    weight: Tensor,
    spec: WeightSpec,
    clip_steps: int = 0,
    importance: Tensor | None = None,
    name: str = "weight",
    clip: Clip = "mse",
) -> Grid:
    """The grid (`grid.fit`) on which a matrix (out, in) is rounded and stored by its spec."""
    grid = fit(weight, spec.bits, spec.group_size, spec.symmetric, clip_steps, importance, name, clip)
    return grid if spec.storage == "plain" else constrain(grid, weight, spec.symmetric, importance)


def constrain(grid: Grid, weight: Tensor, symmetric: bool, importance: Tensor | None = None) -> Grid:
    """The two-level grid near `grid`: of `FACTORS` base scales, and per group of the two multipliers around its scale,
    those with the least squared rounding error, columns weighted by `importance` (in,).

    The products of float16 base scales and multipliers below 129 are exact in float32, and so is every grid point.
    """
    best = torch.full((len(weight), 1), float("inf"))
    scales, zero_points, base = grid.scales, grid.zero_points, torch.ones_like(best)
    tightest = (grid.scales / limits(grid.zero_points, grid.bits)).amax(1, keepdim=True)
    for factor in FACTORS:
        tried = (tightest * factor).to(torch.float16).float().clamp(min=SMALLEST_FLOAT16)
        below, above = (_candidate(grid, tried, up, symmetric) for up in (False, True))
        error_below, error_above = (_errors(weight, candidate, importance) for candidate in (below, above))
        lower = error_below <= error_above
        error = torch.where(lower, error_below, error_above).sum(1, keepdim=True)
        better = error < best
        best, base = torch.where(better, error, best), torch.where(better, tried, base)
        scales = torch.where(better, torch.where(lower, below.scales, above.scales), scales)
        zero_points = torch.where(better, torch.where(lower, below.zero_points, above.zero_points), zero_points)
    return Grid(scales, zero_points, grid.bits, grid.group, base)


def multipliers(grid: Grid) -> Tensor:
    """Of a two-level grid, 1 .. 2**(8 - bits), shape (out, groups), uint8."""
    assert grid.base is not None
    return (grid.scales / grid.base).round().to(torch.uint8)


def limits(zero_points: Tensor, bits: int) -> Tensor:
    """The largest multipliers with which every code's product fits int8; 2**(8 - bits) around the middle."""
    below = torch.floor(-LOWEST / zero_points.clamp(min=1))
    above = torch.floor(HIGHEST / (2**bits - 1 - zero_points).clamp(min=1))
    return torch.minimum(below, above).clamp(max=2 ** (8 - bits))


def _candidate(grid: Grid, base: Tensor, up: bool, symmetric: bool) -> Grid:
    ratio = grid.scales / base
    whole = (ratio.ceil() if up else ratio.floor()).clamp(min=1)
    zero_points = grid.zero_points
    if not symmetric:
        # The range keeps its lower end while its step changes.
        zero_points = (zero_points * ratio / whole).round().clamp(0, 2**grid.bits - 1)
    whole = torch.minimum(whole, limits(zero_points, grid.bits))
    return Grid(whole * base, zero_points, grid.bits, grid.group)


def _errors(weight: Tensor, grid: Grid, importance: Tensor | None) -> Tensor:
    """Squared rounding errors summed by group, shape (out, groups)."""
    squares = (grid.decode(grid.encode(weight)) - weight).square()
    if importance is not None:
        squares *= importance.float()
    return torch.zeros_like(grid.scales).index_add_(1, grid.columns(weight.shape[1]), squares)
