"""Affine grids: scales and zero points on which a weight matrix is rounded, per output channel or group of inputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.recipe.methods import Clip

FLOAT16_MAX = 65504.0
# Smallest range that clip search tries, as a share of min-max: narrower never won at 2 to 8 bits.
NARROWEST = 0.5
# The largest share of a group's weights that percentile search cuts off on either side.
LONGEST_TAIL = 0.05
# Rows worked on at a time, so that the vocabulary's 52 thousand do not multiply the temporaries.
ROWS = 4096


@dataclass(frozen=True)
class Grid:
    """Scales and zero points of one matrix of shape (out, in), both (out, groups), float32.

    Scales hold float16 values, zero points integers from 0 to 2**bits - 1. `group` is the number of neighbouring input
    channels that share a pair (the last group may hold fewer), None for the whole row. Where `base` (out, 1) is given,
    the scales are whole multiples of it (`two_level`), and it is what holds float16 values.
    """

    scales: Tensor
    zero_points: Tensor
    bits: int
    group: int | None
    base: Tensor | None = None

    def rows(self, rows: slice) -> Grid:
        """That of some output channels."""
        base = None if self.base is None else self.base[rows]
        return Grid(self.scales[rows], self.zero_points[rows], self.bits, self.group, base)

    def columns(self, number: int) -> Tensor:
        """The group that each of `number` input channels belongs to, shape (number,)."""
        width = number if self.group is None else self.group
        return torch.arange(number) // width

    def encode(self, weight: Tensor) -> Tensor:
        """The nearest codes, shape (out, in), uint8."""
        codes = torch.empty(weight.shape, dtype=torch.uint8)
        group = self.columns(weight.shape[1])
        for rows in _chunks(weight.shape[0]):
            steps = (weight[rows].float() / self.scales[rows][:, group]).round_()
            codes[rows] = steps.add_(self.zero_points[rows][:, group]).clamp_(0, 2**self.bits - 1).to(torch.uint8)
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """The values that codes stand for, shape (out, in), float32."""
        group = self.columns(codes.shape[1])
        return (codes.float() - self.zero_points[:, group]) * self.scales[:, group]


def fit(
    weight: Tensor,
    bits: int,
    group: int | None,
    symmetric: bool,
    clip_steps: int = 0,
    importance: Tensor | None = None,
    name: str = "weight",
    clip: Clip = "mse",
) -> Grid:
    """The grid of a matrix of shape (out, in): min-max, or with `clip_steps` the best of that many narrower ranges too.

    The narrower ranges are shares of min-max, down to half of it, or with `clip` "percentile" those between a lower and
    an upper percentile of the group's weights, down to its 5th and 95th: each side then ends where its own weights do.

    "Best" is the least sum of squared rounding errors per group, each column weighted by `importance` (in,), for which
    the diagonal of the layer's Hessian stands. Zero always lies on the grid: an integer zero point cannot express a
    range without it. UserError, naming the matrix, for values that are not finite or too large for float16 scales.
    """
    largest = weight.abs().max().item() if weight.numel() else 0.0
    if not largest <= FLOAT16_MAX:
        raise UserError(
            f"weights of {name}", largest, f"must be finite and at most {FLOAT16_MAX:.0f}; the file is broken"
        )
    parts = [
        _fit(weight[rows].float(), bits, group, symmetric, clip_steps, importance, clip)
        for rows in _chunks(weight.shape[0])
    ]
    return Grid(torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]), bits, group)


def ranges(weight: Tensor, group: int | None) -> tuple[Tensor, Tensor]:
    """Least and greatest value of each group of a matrix (out, in), and of zero: (out, groups) each."""
    parts = grouped(weight, group)
    return parts.amin(-1).clamp(max=0), parts.amax(-1).clamp(min=0)


def from_range(low: Tensor, high: Tensor, bits: int, group: int | None, symmetric: bool) -> Grid:
    """The grid that spans given ranges (out, groups) of groups, which hold zero."""
    return Grid(*_affine(low, high, bits, symmetric), bits, group)


def _fit(
    weight: Tensor,
    bits: int,
    group: int | None,
    symmetric: bool,
    clip_steps: int,
    importance: Tensor | None,
    clip: Clip,
) -> tuple[Tensor, Tensor]:
    parts = grouped(weight, group)
    low, high = parts.amin(-1).clamp(max=0), parts.amax(-1).clamp(min=0)
    scales, zero_points = _affine(low, high, bits, symmetric)
    if not clip_steps:
        return scales, zero_points
    columns = torch.ones(weight.shape[1]) if importance is None else importance.float()
    columns = grouped(columns[None], group)
    least = _error(parts, scales, zero_points, bits, columns)
    ordered = parts.sort(-1).values if clip == "percentile" else parts
    for step in range(1, clip_steps + 1):
        if clip == "percentile":
            tail = LONGEST_TAIL * step / clip_steps
            range_ = _quantile(ordered, tail).clamp(max=0), _quantile(ordered, 1 - tail).clamp(min=0)
        else:
            share = 1 - (1 - NARROWEST) * step / clip_steps
            range_ = low * share, high * share
        candidate = _affine(*range_, bits, symmetric)
        error = _error(parts, *candidate, bits, columns)
        better = error < least
        least = torch.where(better, error, least)
        scales = torch.where(better, candidate[0], scales)
        zero_points = torch.where(better, candidate[1], zero_points)
    return scales, zero_points


def _quantile(ordered: Tensor, share: float) -> Tensor:
    """The quantile of values that are sorted along the last axis, interpolated (torch's own is limited in size)."""
    position = share * (ordered.shape[-1] - 1)
    below = int(position)
    above = min(below + 1, ordered.shape[-1] - 1)
    return torch.lerp(ordered[..., below], ordered[..., above], position - below)


def _affine(low: Tensor, high: Tensor, bits: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    top, middle = 2**bits - 1, 2 ** (bits - 1)
    if symmetric:
        # One code more lies below zero than above.
        scales = _float16_above(torch.maximum(high / (middle - 1), -low / middle))
        return scales, torch.full_like(scales, middle)
    scales = _float16_above((high - low) / top)
    return scales, (-low / scales).round_().clamp_(0, top)


def _float16_above(scales: Tensor) -> Tensor:
    """The next float16 at or above, so that no weight of a min-max range falls outside; 1 where all are zero."""
    nearest = scales.to(torch.float16)
    above = torch.nextafter(nearest, torch.full_like(nearest, float("inf")))
    rounded = torch.where(nearest.float() < scales, above, nearest).float().clamp_(max=FLOAT16_MAX)
    return torch.where(rounded == 0, torch.ones_like(rounded), rounded)


def _error(grouped: Tensor, scales: Tensor, zero_points: Tensor, bits: int, columns: Tensor) -> Tensor:
    scale, zero = scales[..., None], zero_points[..., None]
    codes = (grouped / scale).round_().add_(zero).clamp_(0, 2**bits - 1)
    return codes.sub_(zero).mul_(scale).sub_(grouped).square_().mul_(columns).sum(-1)


def grouped(weight: Tensor, group: int | None) -> Tensor:
    """(out, in) as (out, groups, group); a ragged last group is filled with zeros, which change no range."""
    rows, columns = weight.shape
    width = columns if group is None else group
    missing = -columns % width
    return torch.nn.functional.pad(weight, (0, missing)).reshape(rows, -1, width)


def _chunks(rows: int) -> list[slice]:
    return [slice(start, start + ROWS) for start in range(0, rows, ROWS)]
