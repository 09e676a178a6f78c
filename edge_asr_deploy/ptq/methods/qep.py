"""QEP (Arai and Ichikawa, NeurIPS 2025): weights are changed to correct the error that their input already carries."""

from __future__ import annotations

import torch
from torch import Tensor

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.ptq.statistics import Drift
from edge_asr_deploy.recipe.methods import QepOptions


def qep(weight: Tensor, hessian: Tensor, drift: Tensor, options: QepOptions, residual: Tensor | None = None) -> Tensor:
    """W + alpha (W D + R) (H + lambda I)^-1 for a matrix (out, in), float32: the matrix to round instead of W.

    H = 2/n sum x' x'^T of the inputs x' behind quantized layers, D = 2/n sum (x - x') x'^T with the float model's
    inputs x, both (in, in) float64; lambda is `damping` times the mean diagonal of H. With alpha 1 this is the W' of
    least |W x - W' x'|^2 + lambda |W' - W|^2. With `residual` R = 2/n sum (r - r') x'^T (out, in) it is that of least
    |r + W x - r' - W' x'|^2 + ..., r' being the residual stream that the layer adds to and r the float model's: the
    layer makes up for what the blocks before it have lost, too. UserError for activations that are not finite.
    """
    if not bool(hessian.isfinite().all() and drift.isfinite().all()):
        raise UserError(
            "calibration", "activations that are not finite", "leave out the broken clip or check the model"
        )
    mean = hessian.diagonal().mean()
    if mean <= 0:
        return weight.float()
    damped = hessian + options.damping * mean * torch.eye(len(hessian), dtype=hessian.dtype)
    in_double = weight.double()
    moved = in_double @ drift
    if residual is not None:
        moved += residual
    change: Tensor = torch.linalg.solve(damped, moved.T).T
    return in_double.add(change, alpha=options.alpha).float()


def bias_change(weight: Tensor, rounded: Tensor, mean: Tensor, drift: Drift) -> Tensor:
    """What the bias of a layer (out, in) takes so that its mean output is the float model's: (out,), float32.

    W (m' + d) - Q m' + r, of the float weight W, the rounded Q, the inputs' mean m' (in,) and the drift's means: d of
    the inputs and r of the residual stream.
    """
    wanted = weight.double() @ (mean.double() + drift.mean)
    change = wanted - rounded.double() @ mean.double()
    if len(drift.residual_mean):
        change += drift.residual_mean
    return change.float()
