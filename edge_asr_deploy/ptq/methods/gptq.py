"""GPTQ (Frantar et al., arXiv 2210.17323): columns are rounded one by one; those to come make up for the error."""

from __future__ import annotations

import torch
from torch import Tensor

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.options import GptqOptions
from edge_asr_deploy.ptq.grid import Grid
from edge_asr_deploy.ptq.two_level import fit_for
from edge_asr_deploy.recipe import WeightSpec

# Rows are independent; this many at a time keep the vocabulary's working copy small.
ROWS = 8192


def gptq(
    weight: Tensor, spec: WeightSpec, options: GptqOptions, hessian: Tensor, name: str = "weight"
) -> tuple[Grid, Tensor]:
    """Grid and codes (out, in), uint8, of a matrix (out, in) whose inputs have the Hessian (in, in).

    The grid is fixed before any column is rounded ("static groups"), so the order of rounding leaves no trace in the
    result: act-order needs no permutation at export.
    """
    diagonal = hessian.diagonal()
    grid = fit_for(weight, spec, options.clip_steps, diagonal, name)
    order = torch.argsort(diagonal, descending=True, stable=True) if options.act_order else torch.arange(len(diagonal))
    factor = inverse_factor(hessian[order][:, order], options.damping).float()
    codes = torch.empty(weight.shape, dtype=torch.uint8)
    for start in range(0, weight.shape[0], ROWS):
        rows = slice(start, start + ROWS)
        part = Grid(grid.scales[rows], grid.zero_points[rows], grid.bits, grid.group)
        codes[rows] = _round(weight[rows].float(), part, factor, order, options.block)
    return grid, codes


def inverse_factor(hessian: Tensor, damping: float) -> Tensor:
    """The upper Cholesky factor U of the damped Hessian's inverse (H^-1 = U^T U), float64.

    `damping` times the mean diagonal is added to the diagonal, ten times more as often as the matrix is still not
    positive definite. Inputs that were never seen get a curvature of their own: their weights are then just rounded.
    """
    if not bool(hessian.isfinite().all()):
        raise UserError(
            "calibration", "activations that are not finite", "leave out the broken clip or check the model"
        )
    damped = hessian.double().clone()
    diagonal = damped.diagonal()
    dead = diagonal <= 0
    diagonal[dead] = diagonal[~dead].mean() if (~dead).any() else 1.0
    mean = diagonal.mean().item()
    while True:
        diagonal += damping * mean
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            inverse = torch.cholesky_inverse(lower)
            upper, failed = torch.linalg.cholesky_ex(inverse, upper=True)
            if not failed:
                factor: Tensor = upper
                return factor
        damping *= 10


def _round(weight: Tensor, grid: Grid, factor: Tensor, order: Tensor, block: int) -> Tensor:
    """Codes of some rows. Works on the transpose, in rounding order: a column is then contiguous."""
    count = weight.shape[1]
    work = weight.T[order].contiguous()
    group = grid.columns(count)[order].tolist()
    scales, zero_points = grid.scales.T.contiguous(), grid.zero_points.T.contiguous()
    rounded = torch.empty(work.shape, dtype=torch.uint8)
    for start in range(0, count, block):
        stop = min(start + block, count)
        errors = torch.empty(stop - start, work.shape[1])
        for column in range(start, stop):
            scale, zero_point, value = scales[group[column]], zero_points[group[column]], work[column]
            code = (value / scale).round_().add_(zero_point).clamp_(0, 2**grid.bits - 1)
            rounded[column] = code.to(torch.uint8)
            error = code.sub_(zero_point).mul_(scale).neg_().add_(value).div_(factor[column, column])
            work[column + 1 : stop].addr_(factor[column, column + 1 : stop], error, alpha=-1)
            errors[column - start] = error
        work[stop:].addmm_(factor[start:stop, stop:].T, errors, alpha=-1)
    codes = torch.empty_like(rounded)
    codes[order] = rounded
    return codes.T
