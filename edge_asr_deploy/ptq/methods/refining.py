"""Codes that GPTQ has chosen, chosen again: each column to the others as they are now (QuantEase, arXiv 2309.01885).

GPTQ rounds a column when those behind it are still float, and never looks back. With all others fixed the best value of
a column has a closed form. With E = W - Q and the Hessian H of the inputs, the error is tr(E H E^T), and column j of Q
should be

    q_j = round( w_j + sum over k != j of E_k H_kj / H_jj )

so that no pass raises the error. Between two rounds of passes the scales of the groups are fitted to the codes, one
after the other, in the same way (COMQ, arXiv 2403.07134, takes scales for coordinates, too).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from edge_asr_deploy.ptq.grid import Grid

# How far a fitted scale may lie from the searched one: what no input of the group reaches has no best scale.
NARROWER, WIDER = 0.7, 1.4


@dataclass
class _Matrix:
    """A matrix on its way, transposed, as a column is contiguous then; (in, out) all but `hessian` (in, in).

    `pull` is H E: what the errors of all inputs do to each.
    """

    weight: Tensor
    codes: Tensor
    grid: Grid
    hessian: Tensor
    error: Tensor
    pull: Tensor

    @classmethod
    def of(cls, weight: Tensor, codes: Tensor, grid: Grid, hessian: Tensor) -> _Matrix:
        error = (weight - grid.decode(codes)).T.contiguous()
        return cls(weight.T.contiguous(), codes.T.float().contiguous(), grid, hessian, error, hessian @ error)

    def round_again(self, order: Tensor, block: int) -> None:
        """One pass over all columns in `order`; what a block of them changes reaches the others behind it."""
        group = self.grid.columns(len(self.weight)).tolist()
        scales, zeros = self.grid.scales.T.contiguous(), self.grid.zero_points.T.contiguous()
        diagonal, top = self.hessian.diagonal().tolist(), 2**self.grid.bits - 1
        for columns in torch.split(order, block):
            among = self.hessian[columns][:, columns].contiguous()
            pull, before = self.pull[columns], self.error[columns]
            error = before.clone()
            for index, column in enumerate(columns.tolist()):
                scale, zero = scales[group[column]], zeros[group[column]]
                best = self.weight[column] - error[index] + pull[index] / diagonal[column]
                code = (best / scale).round_().add_(zero).clamp_(0, top)
                now = self.weight[column] - (code - zero) * scale
                pull.addr_(among[:, index], now - error[index])
                self.codes[column], error[index] = code, now
            self.error[columns] = error
            self.pull.addmm_(self.hessian[:, columns], error - before)

    def fit_scales(self) -> None:
        """The scales that are best for these codes: of one group after the other, or of whole channels where the
        groups' are whole multiples of one."""
        grid = self.grid
        group = grid.columns(len(self.weight))
        steps = self.codes - grid.zero_points.T[group]
        if grid.base is not None:
            multiples = (grid.scales / grid.base).round()
            base = self._fitted(grid.base[:, 0], steps * multiples.T[group], torch.arange(len(group)))[:, None]
            self.grid = replace(grid, scales=multiples * base, base=base)
            return
        fitted = []
        for number, old in enumerate(grid.scales.T):
            columns = (group == number).nonzero()[:, 0]
            fitted.append(self._fitted(old, steps[columns], columns))
        self.grid = replace(grid, scales=torch.stack(fitted, 1))

    def _fitted(self, old: Tensor, steps: Tensor, columns: Tensor) -> Tensor:
        """The best scales (out,), float16 values, of columns whose values are these steps (columns, out) times it."""
        curvature = (steps * (self.hessian[columns][:, columns] @ steps)).sum(0)
        change = (steps * self.pull[columns]).sum(0) / curvature.clamp(min=torch.finfo(torch.float32).tiny)
        new = (old + change).to(torch.float16).float()
        new = torch.where((new > NARROWER * old) & (new < WIDER * old), new, old)
        moved = steps * (old - new)
        self.error[columns] += moved
        self.pull.addmm_(self.hessian[:, columns], moved)
        return new


def refined(
    weight: Tensor, grid: Grid, codes: Tensor, hessian: Tensor, order: Tensor, passes: int, block: int
) -> tuple[Grid, Tensor]:
    """Grid and codes (out, in), uint8, after `passes` over all columns, a fit of the scales, and as many passes again.

    `weight` (out, in), float32; `hessian` (in, in), float32, is damped; `order` is that of the columns.
    """
    matrix = _Matrix.of(weight, codes, grid, hessian)
    for _ in range(passes):
        matrix.round_again(order, block)
    matrix.fit_scales()
    for _ in range(passes):
        matrix.round_again(order, block)
    return matrix.grid, matrix.codes.T.to(torch.uint8)
