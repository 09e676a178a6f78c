"""GPTQ (Frantar et al., arXiv 2210.17323): columns are rounded one by one; later columns absorb the error.

With `passes` the codes are then chosen again, column by column, to all others (`refining`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.ptq.grid import Grid
from edge_asr_deploy.ptq.methods.refining import refined
from edge_asr_deploy.ptq.two_level import fit_for
from edge_asr_deploy.recipe.methods import GptqOptions
from edge_asr_deploy.recipe.weights import WeightSpec

# Rows are independent. So many at a time keep the working copy of the vocabulary's table small.
ROWS = 8192
# Columns per lazy batch, for methods whose options do not say it.
BLOCK = 128


def gptq(
    weight: Tensor, spec: WeightSpec, options: GptqOptions, hessian: Tensor, name: str = "weight"
) -> tuple[Grid, Tensor]:
    """Grid and codes (out, in), uint8, of a matrix (out, in) whose inputs have the Hessian (in, in).

    The grid is fixed before any column is rounded ("static groups"), so that act-order needs no permutation at export.
    """
    diagonal = hessian.diagonal()
    grid = fit_for(weight, spec, options.clip_steps, diagonal, name, options.clip)
    order = torch.argsort(diagonal, descending=True, stable=True) if options.act_order else torch.arange(len(diagonal))
    factor = inverse_factor(hessian[order][:, order], options.damping).float()
    codes = torch.empty(weight.shape, dtype=torch.uint8)
    for rows in _chunks(len(weight)):
        codes[rows], _ = columns_to_codes(
            weight[rows].float(), grid.rows(rows), factor, order, options.block, len(order)
        )
    return _again(weight, grid, codes, hessian, order, options) if options.passes else (grid, codes)


def _again(
    weight: Tensor, grid: Grid, codes: Tensor, hessian: Tensor, order: Tensor, options: GptqOptions
) -> tuple[Grid, Tensor]:
    """Grid and codes after `options.passes` (`refined`)."""
    curved = _alive(hessian)
    curved.diagonal().add_(options.damping * curved.diagonal().mean())
    curved = curved.float()
    parts = [
        refined(weight[rows].float(), grid.rows(rows), codes[rows], curved, order, options.passes, options.block)
        for rows in _chunks(len(weight))
    ]
    bases = [part.base for part, _ in parts if part.base is not None]
    scales, base = torch.cat([part.scales for part, _ in parts]), torch.cat(bases) if bases else None
    return replace(grid, scales=scales, base=base), torch.cat([again for _, again in parts])


def _chunks(rows: int) -> list[slice]:
    return [slice(start, start + ROWS) for start in range(0, rows, ROWS)]


def inverse_factor(hessian: Tensor, damping: float) -> Tensor:
    """The upper Cholesky factor U of the damped Hessian's inverse (H^-1 = U^T U), float64.

    `damping` times the mean diagonal is added to the diagonal, then ten times as much as long as the matrix is not
    positive definite. An input that was always 0 gets the mean curvature, so that its weights are just rounded.
    """
    if not bool(hessian.isfinite().all()):
        raise UserError(
            "calibration", "activations that are not finite", "leave out the broken clip or check the model"
        )
    damped = _alive(hessian)
    diagonal = damped.diagonal()
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


def _alive(hessian: Tensor) -> Tensor:
    """A copy in float64 in which an input that was always 0 has the mean curvature."""
    copied = hessian.double().clone()
    diagonal = copied.diagonal()
    dead = diagonal <= 0
    diagonal[dead] = diagonal[~dead].mean() if (~dead).any() else 1.0
    return copied


def propagate(
    weight: Tensor, factor: Tensor, order: Tensor, block: int, round_column: Callable[[int, Tensor], Tensor], stop: int
) -> Tensor:
    """Round the first `stop` columns of a matrix (out, in) in `order`, each error spread over the columns behind it.

    `round_column(column, values)` returns the rounded values (out,) of a column and stores its codes. `factor` belongs
    to the permuted Hessian. Returns the columns that were not rounded, with all errors absorbed: (in - stop, out), in
    rounding order. Works on the transpose, where a column is contiguous.
    """
    work = weight.T[order].contiguous()
    columns = order.tolist()
    for start in range(0, stop, block):
        end = min(start + block, stop)
        errors = torch.empty(end - start, work.shape[1])
        for column in range(start, end):
            value = work[column]
            error = round_column(columns[column], value).neg_().add_(value).div_(factor[column, column])
            work[column + 1 : end].addr_(factor[column, column + 1 : end], error, alpha=-1)
            errors[column - start] = error
        work[end:].addmm_(factor[start:end, end:].T, errors, alpha=-1)
    return work[stop:]


def columns_to_codes(
    weight: Tensor, grid: Grid, factor: Tensor, order: Tensor, block: int, stop: int
) -> tuple[Tensor, Tensor]:
    """Codes (out, in), uint8, of the first `stop` columns in `order`, and the new values of the remaining columns.

    The remaining columns have their zero points as codes. Their values are (out, in - stop), in rounding order.
    """
    group = grid.columns(weight.shape[1]).tolist()
    scales, zero_points = grid.scales.T.contiguous(), grid.zero_points.T.contiguous()
    codes = zero_points[group].to(torch.uint8)

    def nearest(column: int, values: Tensor) -> Tensor:
        scale, zero_point = scales[group[column]], zero_points[group[column]]
        code = (values / scale).round_().add_(zero_point).clamp_(0, 2**grid.bits - 1)
        codes[column] = code.to(torch.uint8)
        return code.sub_(zero_point).mul_(scale)

    rest = propagate(weight, factor, order, block, nearest, stop)
    return codes.T, rest.T
