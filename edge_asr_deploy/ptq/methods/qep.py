"""QEP (Arai and Ichikawa, NeurIPS 2025): weights are changed to correct the error that their input already carries."""

from __future__ import annotations

import torch
from torch import Tensor

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.recipe.methods import QepOptions


def qep(weight: Tensor, hessian: Tensor, drift: Tensor, options: QepOptions) -> Tensor:
    """W + alpha W D (H + lambda I)^-1 for a matrix (out, in), float32: the matrix to round instead of W.

    H = 2/n sum x' x'^T of the inputs x' behind quantized layers, D = 2/n sum (x - x') x'^T with the float model's
    inputs x, both (in, in) float64; lambda is `damping` times the mean diagonal of H. With alpha 1 this is the W' of
    least |W x - W' x'|^2 + lambda |W' - W|^2. UserError for activations that are not finite.
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
    change: Tensor = torch.linalg.solve(damped, (in_double @ drift).T).T
    return in_double.add(change, alpha=options.alpha).float()
