"""SpQR (Dettmers et al., arXiv 2306.03078): the few weights whose rounding costs most get codes on a finer grid.

As in the paper: GPTQ's loop, where a weight is an outlier when (w - q)^2 / d^2 is above a threshold, d the diagonal of
the inverse Hessian's factor; grids fitted without the weights that, left out, let the rest of their group round much
better; scales that are narrow codes themselves. Unlike in the paper outliers are 8-bit codes, not float16 (`FinerCodes`
says how one kernel then computes everything), zero points are plain integers, and grids are fitted before any column is
rounded, as `gptq` does, which allows act-order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from edge_asr_deploy.ptq.grid import Grid, fit, grouped
from edge_asr_deploy.ptq.methods.gptq import BLOCK, inverse_factor, propagate
from edge_asr_deploy.quantized.outliers import FINER_BITS, FinerCodes
from edge_asr_deploy.quantized.scales import SHARED, CodedScales
from edge_asr_deploy.recipe.methods import SpqrOptions
from edge_asr_deploy.recipe.weights import WeightSpec

# Leaving one outlier out may uncover another one, so that the search is repeated.
ROUNDS = 3
# While more weights than the cap are above the threshold, it rises by a factor between these.
SLOWEST, FASTEST = 1.05, 2.0


@dataclass(frozen=True)
class Rounded:
    """What SpQR makes of a matrix (out, in): codes (out, in), uint8, zero points (out, groups), scales, outliers."""

    codes: Tensor
    zero_points: Tensor
    scales: CodedScales
    outliers: FinerCodes


def spqr(weight: Tensor, spec: WeightSpec, options: SpqrOptions, hessian: Tensor, name: str = "weight") -> Rounded:
    """Round one matrix (out, in) whose inputs have the Hessian (in, in); at most `share` of its weights are outliers.

    Output channels share statistics by 16, so matrices are not stacked. UserError as `grid.fit` and `inverse_factor`.
    """
    weight, diagonal = weight.float(), hessian.diagonal()
    order = torch.argsort(diagonal, descending=True, stable=True)
    factor = inverse_factor(hessian[order][:, order], options.damping).float()
    # 1 / d^2 of each column: the cost of a squared rounding error there.
    curvature = torch.empty(len(order))
    curvature[order] = factor.diagonal() ** -2
    threshold = options.threshold * float((weight.var(0, correction=0) * curvature).mean())
    most = int(options.share * weight.numel())
    # With far more suspects than the share allows, the first grids would be useless.
    falls = leaving_out(weight, torch.zeros(weight.shape, dtype=torch.bool), spec, curvature)
    threshold = max(threshold, _exceeded_by(falls, most))
    while True:
        suspects = leave_one_out(weight, spec, curvature, threshold)
        typical = without(weight, suspects, spec.group_size)
        grid = fit(typical, spec.bits, spec.group_size, spec.symmetric, options.clip_steps, diagonal, name)
        least = least_scales(weight, suspects, spec)
        empty = grouped(typical, spec.group_size).abs().amax(-1) == 0
        grid, scales = narrow_scales(grid, least, empty, spec.symmetric, options.statistics_bits)
        shifts = best_shifts(weight, suspects, grid, curvature)
        codes, is_outlier, costs = _round(weight, grid, factor, order, curvature, threshold, shifts)
        if int(is_outlier.sum()) <= most:
            break
        threshold *= min(max(_exceeded_by(costs, most) / threshold, SLOWEST), FASTEST)
    positions = is_outlier.T.flatten().nonzero().flatten()
    outliers = FinerCodes(positions.numpy(), codes.T.flatten()[positions].numpy(), shifts[::SHARED].numpy())
    zero_points = grid.zero_points.to(torch.uint8)
    codes = torch.where(is_outlier, zero_points[:, grid.columns(weight.shape[1])], codes)
    return Rounded(codes, zero_points, scales, outliers)


def leave_one_out(weight: Tensor, spec: WeightSpec, curvature: Tensor, threshold: float) -> Tensor:
    """The weights of a matrix (out, in) without which the cost of rounding their group falls by more than `threshold`.

    Outliers are left out, and the remaining weights are searched again.
    """
    suspects = torch.zeros(weight.shape, dtype=torch.bool)
    # At 8 bits the outliers' grid is the matrix's own grid, so that leaving weights out of the fit gains nothing.
    for _ in range(ROUNDS if spec.bits < FINER_BITS else 0):
        more = (leaving_out(weight, suspects, spec, curvature) > threshold) & ~suspects
        if not more.any():
            break
        suspects |= more
    return suspects


def leaving_out(weight: Tensor, left_out: Tensor, spec: WeightSpec, curvature: Tensor) -> Tensor:
    """For each weight of a matrix (out, in): by how much the cost of rounding its group falls when it is left out.

    Weights in `left_out` are left out before. The cost is the sum of squared errors times the columns' curvature (in,).
    Only a group's least and largest weight can change its grid; leaving out any other weight saves just its own cost.
    """
    rest = without(weight, left_out, spec.group_size)
    costs = _costs(rest, spec, curvature)
    parts, falls = grouped(rest, spec.group_size), costs.clone()
    for extreme in (parts.argmin(-1, keepdim=True), parts.argmax(-1, keepdim=True)):
        at = torch.zeros(parts.shape, dtype=torch.bool).scatter_(-1, extreme, True)
        at = at.flatten(1)[:, : weight.shape[1]]
        less = _costs(without(weight, left_out | at, spec.group_size), spec, curvature).masked_fill_(at, 0)
        fall = grouped(costs - less, spec.group_size).sum(-1, keepdim=True).expand(parts.shape)
        falls = torch.where(at, fall.flatten(1)[:, : weight.shape[1]], falls)
    return falls


def without(weight: Tensor, left_out: Tensor, group: int | None) -> Tensor:
    """The matrix (out, in) with some weights replaced by the mean of the others in their group."""
    others = weight.masked_fill(left_out, 0)
    number = grouped((~left_out).float(), group).sum(-1, keepdim=True).clamp(min=1)
    parts = grouped(others, group)
    mean = (parts.sum(-1, keepdim=True) / number).expand(parts.shape).flatten(1)[:, : weight.shape[1]]
    return torch.where(left_out, mean, weight)


def least_scales(weight: Tensor, suspects: Tensor, spec: WeightSpec) -> Tensor:
    """The smallest scales (out, groups) with which the outliers' grid still reaches every suspect; 0 without any."""
    # Steps beyond the range of the codes on either side, for any zero point; minus one, as scales may round down.
    reach = max(1, 2 ** (FINER_BITS - 1) - 2 ** (spec.bits - 1) - 1)
    farthest = grouped(weight.abs().masked_fill(~suspects, 0), spec.group_size).amax(-1)
    least: Tensor = farthest / reach
    return least


def narrow_scales(grid: Grid, least: Tensor, empty: Tensor, symmetric: bool, width: int) -> tuple[Grid, CodedScales]:
    """The grid with scales that are codes of `width` bits, none below `least` (out, groups).

    Zero points move so that each range keeps its centre. Groups without weights, marked in `empty`, take any scale.
    """
    rows, groups = grid.scales.shape
    wanted = torch.maximum(grid.scales, least).masked_fill(empty, torch.inf)
    wanted = torch.cat([wanted, wanted[-1:].expand(-rows % SHARED, groups)]).reshape(-1, SHARED, groups)
    base = wanted.amin(1)
    base = base.where(base.isfinite(), 1).to(torch.float16).float()
    wanted = wanted.where(wanted.isfinite(), base[:, None]) - base[:, None]
    step = (wanted.amax(1) / (2**width - 1)).to(torch.float16).float()
    must = torch.cat([least, least[-1:].expand(-rows % SHARED, groups)]).reshape(wanted.shape) - base[:, None]
    per_step = step.where(step > 0, torch.inf)[:, None]
    codes = torch.maximum((wanted / per_step).round(), (must / per_step).ceil()).clamp_(0, 2**width - 1)
    narrow = CodedScales(
        codes.reshape(-1, groups)[:rows].to(torch.uint8).numpy(),
        base.to(torch.float16).numpy(),
        step.to(torch.float16).numpy(),
        width,
    )
    narrowed, top = torch.from_numpy(narrow.by_group()), 2**grid.bits - 1
    if symmetric:
        return Grid(narrowed, grid.zero_points, grid.bits, grid.group), narrow
    middle = (top / 2 - grid.zero_points) * grid.scales
    zero_points = (top / 2 - middle / narrowed).round_().clamp_(0, top)
    return Grid(narrowed, zero_points, grid.bits, grid.group), narrow


def best_shifts(weight: Tensor, suspects: Tensor, grid: Grid, curvature: Tensor) -> Tensor:
    """How many times finer (as powers of 2) the outliers' grid is, (out, groups) uint8, alike in 16 output channels.

    A finer grid is narrower, as both have 8 bits. The choice minimizes the cost of the suspects; without any, the grid
    reaches twice as far as the codes do.
    """
    room = FINER_BITS - grid.bits
    usual = max(room - 1, 0)
    columns = grid.columns(weight.shape[1])
    scales, zeros = grid.scales[:, columns], grid.zero_points[:, columns]
    rows, groups = grid.scales.shape
    best = torch.full((math.ceil(rows / SHARED), groups), usual, dtype=torch.uint8)
    least = torch.full(best.shape, float("inf"))
    for shift in sorted(range(room + 1), key=lambda shift: abs(shift - usual)):
        _, rounded = _on_finer_grid(weight, scales, zeros, grid.bits, torch.tensor(shift))
        costs = ((weight - rounded).square_() * curvature).masked_fill_(~suspects, 0)
        cost = torch.nn.functional.pad(grouped(costs, grid.group).sum(-1), (0, 0, 0, -rows % SHARED))
        cost = cost.reshape(-1, SHARED, groups).sum(1)
        best[cost < least] = shift
        least = torch.minimum(least, cost)
    return best.repeat_interleave(SHARED, 0)[:rows]


def _round(
    weight: Tensor, grid: Grid, factor: Tensor, order: Tensor, curvature: Tensor, threshold: float, shifts: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Codes (of the finer grid for outliers), a mask of the outliers, and the cost of each weight; (out, in) each."""
    group, top = grid.columns(weight.shape[1]).tolist(), 2**grid.bits - 1
    scales, zero_points, finer = (v.T.contiguous() for v in (grid.scales, grid.zero_points, shifts))
    codes = torch.empty(weight.T.shape, dtype=torch.uint8)
    is_outlier, costs = torch.zeros(codes.shape, dtype=torch.bool), torch.empty(codes.shape)
    weights = curvature.tolist()

    def nearest(column: int, values: Tensor) -> Tensor:
        at = group[column]
        code = (values / scales[at]).round_().add_(zero_points[at]).clamp_(0, top)
        rounded = (code - zero_points[at]).mul_(scales[at])
        error = (values - rounded).abs_()
        torch.mul(error.square(), weights[column], out=costs[column])
        finer_code, finer_value = _on_finer_grid(values, scales[at], zero_points[at], grid.bits, finer[at])
        outlier = (costs[column] > threshold) & ((values - finer_value).abs_() < error)
        is_outlier[column] = outlier
        codes[column] = torch.where(outlier, finer_code, code).to(torch.uint8)
        return torch.where(outlier, finer_value, rounded)

    propagate(weight, factor, order, BLOCK, nearest, len(order))
    return codes.T, is_outlier.T, costs.T


def _on_finer_grid(
    values: Tensor, scales: Tensor, zero_points: Tensor, bits: int, shifts: Tensor
) -> tuple[Tensor, Tensor]:
    """The nearest codes of the outliers' grid, and the values they stand for; all of one shape."""
    factors = 2.0**shifts
    finer = scales / factors
    zeros = zero_points * factors + (2 ** (FINER_BITS - 1) - 2 ** (bits - 1) * factors)
    codes = (values / finer).round_().add_(zeros).clamp_(0, 2**FINER_BITS - 1)
    return codes, (codes - zeros).mul_(finer)


def _exceeded_by(values: Tensor, number: int) -> float:
    """The value that at most `number` of the values exceed."""
    return float(values.flatten().kthvalue(values.numel() - number).values)


def _costs(weight: Tensor, spec: WeightSpec, curvature: Tensor) -> Tensor:
    """The cost of rounding each weight of a matrix (out, in) to the nearest point of a min-max grid."""
    grid = fit(weight, spec.bits, spec.group_size, spec.symmetric)
    return (weight - grid.decode(grid.encode(weight))).square_().mul_(curvature)
