"""TesseraQ (Li and Panda, arXiv 2410.19103): rounding up or down is learned, and hardened in rounds."""

from __future__ import annotations

import torch
from torch import Tensor

from edge_asr_deploy.ptq.grid import FLOAT16_MAX, Grid, fit
from edge_asr_deploy.ptq.learning.reconstruction import Learned, Part, Site, shuffled, spread, through, total
from edge_asr_deploy.ptq.methods.gptq import gptq
from edge_asr_deploy.recipe.methods import GptqOptions, TesseraqOptions
from edge_asr_deploy.recipe.weights import WeightSpec

# The sigmoid is stretched to this interval and clipped to [0, 1], so that it reaches both ends (AdaRound, arXiv
# 2004.10568).
LOWEST, HIGHEST = -0.1, 1.1
# The paper's decay of the learned scale factors.
DECAY = 1e-4
# Where soft rounding begins: this share of the way from a start's codes to the float values. From GPTQ's codes it is
# small: the first rounds keep GPTQ's choices, and the distance only says which weights are fixed first. Relative error
# at rate 0.02 in docs/log/experiments.md, "Starts of the learned methods": 0.0204 from 0.02, 0.0210 from 0.2, 0.0213
# from 0.4, and 0.0213 for GPTQ alone. Rounding to nearest chose nothing that could be lost, so it begins at 1.
FROM_GPTQ, FROM_NEAREST = 0.02, 1.0
# GPTQ's damping of the start, as in the shipped recipes.
DAMPING = 0.1


def tesseraq(part: Part, spec: WeightSpec, options: TesseraqOptions) -> Learned:
    """Learn the rounding of a part of a block, from the best of three starts: GPTQ's codes, a clip search, min-max.

    W' = (clip(f + h(v) + z) - z) s 2 sigmoid(u) with f the code below, h from 0 to 1, and u per group, at first 0.
    From a start that rounds to nearest, f + h(v) begins at W / s. From GPTQ's codes it begins close to the code, and
    the other choice is the next code towards W / s. Each round fixes a share of the weights, those whose h is nearest
    to 0 or 1, and goes on learning the others; the last round fixes all of them and learns only u. The result is the
    best of the start and of every round with all its weights fixed, by the error over all batches.
    """
    objective = part.objective
    order = shuffled(objective.batches, torch.Generator().manual_seed(options.seed))
    matrices, error = _best_start(part, spec, options)
    best = Learned({path: (matrix.grid, matrix.start) for path, matrix in matrices.items()}, error)
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


def _best_start(part: Part, spec: WeightSpec, options: TesseraqOptions) -> tuple[dict[str, _Matrix], float]:
    """The matrices of the start with the least error, by module path, and that error. Of equal ones the first."""
    best: tuple[dict[str, _Matrix], float] | None = None
    for start in (_from_gptq, _from_clipped, _from_whole):
        matrices = {}
        for path, site in part.paths():
            weight = part.parameters[f"{path}.weight"].detach().float()
            matrices[path] = start(weight, spec, options, site, path)
        values = {f"{path}.weight": matrix.grid.decode(matrix.start) for path, matrix in matrices.items()}
        error = total(part.objective, values)
        if best is None or error < best[1]:
            best = matrices, error
    assert best is not None
    return best


def _from_gptq(weight: Tensor, spec: WeightSpec, options: TesseraqOptions, site: Site, name: str) -> _Matrix:
    grid, codes = gptq(weight, spec, GptqOptions(damping=DAMPING, clip_steps=options.clip_steps), site.hessian, name)
    return _Matrix(weight, grid, codes, FROM_GPTQ)


def _from_clipped(weight: Tensor, spec: WeightSpec, options: TesseraqOptions, site: Site, name: str) -> _Matrix:
    importance = site.hessian.diagonal()
    grid = fit(weight, spec.bits, spec.group_size, spec.symmetric, options.clip_steps, importance, name)
    return _Matrix(weight, grid, grid.encode(weight), FROM_NEAREST)


def _from_whole(weight: Tensor, spec: WeightSpec, options: TesseraqOptions, site: Site, name: str) -> _Matrix:
    grid = fit(weight, spec.bits, spec.group_size, spec.symmetric, name=name)
    return _Matrix(weight, grid, grid.encode(weight), FROM_NEAREST)


class _Matrix:
    """One matrix on its way from soft to hard rounding.

    Soft rounding begins at the share `way` (0 to 1) of the distance from the codes `start` (out, in) to the float
    values, at most one code away.
    """

    def __init__(self, weight: Tensor, grid: Grid, start: Tensor, way: float) -> None:
        self.weight, self.grid, self.start = weight, grid, start
        self.zero = self.columns(grid.zero_points)
        codes = start.float() - self.zero
        beyond = weight / self.columns(grid.scales) - codes
        self.floor = torch.where(beyond < 0, codes - 1, codes)
        moved = codes + way * beyond.clamp(-1, 1)
        share = (moved - self.floor - LOWEST) / (HIGHEST - LOWEST)
        self.logits = torch.logit(share).requires_grad_()
        self.factors = torch.zeros_like(grid.scales).requires_grad_()
        self.fixed = torch.zeros_like(weight, dtype=torch.bool)
        self.ends = torch.zeros_like(weight)

    def columns(self, values: Tensor) -> Tensor:
        """Values of groups for each column, (out, in)."""
        return spread(values, self.grid.group, self.weight.shape[1])

    def up(self) -> Tensor:
        """h(v) from 0 (down) to 1 (up), (out, in)."""
        return (self.logits.sigmoid() * (HIGHEST - LOWEST) + LOWEST).clamp(0, 1)

    def harden(self, share: float) -> None:
        """Fix the weights nearest to 0 or 1, until only this share of all weights is soft."""
        with torch.no_grad():
            up = self.up()
            decided = (up - 0.5).abs().masked_fill(self.fixed, 1.0).flatten()
            number_fixed = decided.numel() - int(share * decided.numel())
            order = torch.argsort(decided, descending=True, stable=True)
            chosen = torch.zeros_like(decided, dtype=torch.bool)
            chosen[order[:number_fixed]] = True
            chosen = chosen.view_as(self.fixed) & ~self.fixed
            self.ends = torch.where(chosen, (up > 0.5).float(), self.ends)
            self.fixed |= chosen

    def soft(self) -> Tensor:
        """The matrix in its present soft rounding, differentiable."""
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

    def hard(self) -> tuple[Grid, Tensor]:
        """Grid and codes with every weight fixed at its nearer end."""
        with torch.no_grad():
            up = torch.where(self.fixed, self.ends, (self.up() > 0.5).float())
            grid = Grid(self.scales(self.factors), self.grid.zero_points, self.grid.bits, self.grid.group)
            return grid, self.codes(up).to(torch.uint8)
