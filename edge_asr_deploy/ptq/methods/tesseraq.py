"""TesseraQ (Li and Panda, arXiv 2410.19103): rounding up or down is learned, and hardened in rounds."""

from __future__ import annotations

import torch
from torch import Tensor

from edge_asr_deploy.options import TesseraqOptions
from edge_asr_deploy.ptq.grid import FLOAT16_MAX, Grid, fit
from edge_asr_deploy.ptq.reconstruction import Learned, Part, shuffled, spread, through, total
from edge_asr_deploy.recipe import WeightSpec

# The sigmoid is stretched to this interval and cut to [0, 1], so that it reaches both (AdaRound, arXiv 2004.10568).
LOWEST, HIGHEST = -0.1, 1.1
# The paper's decay of the learned scale factors.
DECAY = 1e-4


def tesseraq(part: Part, spec: WeightSpec, options: TesseraqOptions) -> Learned:
    """Learn the rounding of a part of a block, on the grids of a clip search or min-max, whichever starts better.

    W' = (clip(floor(W / s) + h(v) + z) - z) s 2 sigmoid(u) with h from 0 to 1, at first the fraction of W / s, and u
    per group, at first 0. In each round a share of the weights, those whose h is nearest to an end, is fixed there and
    the others go on; in the last all are fixed and only u is learned. The result is the best of the start and
    of every round with all its weights fixed, by the error over all batches.
    """
    objective = part.objective
    order = shuffled(objective.batches, torch.Generator().manual_seed(options.seed))
    starts = [_start(part, spec, clip_steps) for clip_steps in sorted({options.clip_steps, 0}, reverse=True)]
    errors = [
        total(objective, {f"{path}.weight": matrix.nearest() for path, matrix in matrices.items()})
        for matrices in starts
    ]
    error = min(errors)
    matrices = starts[errors.index(error)]
    best = Learned({path: (m.grid, m.grid.encode(m.weight)) for path, m in matrices.items()}, error)
    with torch.enable_grad():
        optimizer = torch.optim.AdamW(
            [
                {"params": [m.logits for m in matrices.values()], "lr": options.rate, "weight_decay": 0.0},
                {"params": [m.factors for m in matrices.values()], "lr": options.scale_rate, "weight_decay": DECAY},
            ]
        )
        for number in range(1, options.rounds + 1):
            for matrix in matrices.values():
                matrix.harden((1 - number / options.rounds) ** 2)
            for _ in range(options.iterations):
                optimizer.zero_grad()
                parameters = {f"{path}.weight": matrix.soft() for path, matrix in matrices.items()}
                loss = objective.error(parameters, next(order)) * objective.batches
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            hard = {path: matrix.hard() for path, matrix in matrices.items()}
            error = total(objective, {f"{path}.weight": grid.decode(codes) for path, (grid, codes) in hard.items()})
            if error < best.error:
                best = Learned(hard, error)
    return best


def _start(part: Part, spec: WeightSpec, clip_steps: int) -> dict[str, _Matrix]:
    return {
        path: _Matrix(
            part.parameters[f"{path}.weight"].detach().float(), spec, clip_steps, site.hessian.diagonal(), path
        )
        for path, site in part.paths()
    }


class _Matrix:
    """One matrix on its way from soft to hard rounding."""

    def __init__(self, weight: Tensor, spec: WeightSpec, clip_steps: int, importance: Tensor, name: str) -> None:
        self.weight = weight
        self.grid = fit(weight, spec.bits, spec.group_size, spec.symmetric, clip_steps, importance, name)
        steps = weight / self.columns(self.grid.scales)
        self.zero = self.columns(self.grid.zero_points)
        self.floor = steps.floor()
        share = (steps - self.floor - LOWEST) / (HIGHEST - LOWEST)
        self.logits = torch.logit(share).requires_grad_()
        self.factors = torch.zeros_like(self.grid.scales).requires_grad_()
        self.fixed = torch.zeros_like(weight, dtype=torch.bool)
        self.ends = torch.zeros_like(weight)

    def columns(self, values: Tensor) -> Tensor:
        """Values of groups for each column, (out, in)."""
        return spread(values, self.grid.group, self.weight.shape[1])

    def up(self) -> Tensor:
        """h(v) from 0 (down) to 1 (up), (out, in)."""
        return (self.logits.sigmoid() * (HIGHEST - LOWEST) + LOWEST).clamp(0, 1)

    def harden(self, share: float) -> None:
        """Fix weights until only this share of all is soft: those that are furthest from undecided."""
        with torch.no_grad():
            up = self.up()
            decided = (up - 0.5).abs().masked_fill(self.fixed, 1.0).flatten()
            order = torch.argsort(decided, descending=True, stable=True)[
                : decided.numel() - int(share * decided.numel())
            ]
            chosen = torch.zeros_like(decided, dtype=torch.bool)
            chosen[order] = True
            chosen = chosen.view_as(self.fixed) & ~self.fixed
            self.ends = torch.where(chosen, (up > 0.5).float(), self.ends)
            self.fixed |= chosen

    def soft(self) -> Tensor:
        """The matrix as it is being learned, differentiable."""
        values = self.scales(self.factors)
        return (self.codes(torch.where(self.fixed, self.ends, self.up())) - self.zero) * self.columns(values)

    def codes(self, up: Tensor) -> Tensor:
        """Codes for a choice of rounding, within the grid's range."""
        return (self.floor + up + self.zero).clamp(0, 2**self.grid.bits - 1)

    def scales(self, factors: Tensor) -> Tensor:
        """s 2 sigmoid(u) in float16's precision; a scale that float16 cannot hold stays as it was."""
        raw = self.grid.scales * 2 * factors.sigmoid()
        stored = raw.detach().to(torch.float16).float()
        exact = torch.where((stored > 0) & (stored <= FLOAT16_MAX), stored, self.grid.scales)
        return through(raw, exact)

    def nearest(self) -> Tensor:
        """The matrix rounded to nearest on the start."""
        return self.grid.decode(self.grid.encode(self.weight))

    def hard(self) -> tuple[Grid, Tensor]:
        """Grid and codes with every weight fixed at its nearer end."""
        with torch.no_grad():
            up = torch.where(self.fixed, self.ends, (self.up() > 0.5).float())
            grid = Grid(self.scales(self.factors), self.grid.zero_points, self.grid.bits, self.grid.group)
            return grid, self.codes(up).to(torch.uint8)
