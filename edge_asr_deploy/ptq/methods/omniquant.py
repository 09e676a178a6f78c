"""OmniQuant (Shao et al., arXiv 2308.13137): the clipping of every group is learned, and scales where they fold."""

from __future__ import annotations

import torch
from torch import Tensor

from edge_asr_deploy.ptq.grid import fit, from_range, ranges
from edge_asr_deploy.ptq.learning.reconstruction import Learned, Part, Site, shuffled, spread, through, total
from edge_asr_deploy.recipe.methods import OmniQuantOptions
from edge_asr_deploy.recipe.weights import WeightSpec

# sigmoid(4) = 0.98 of the range, the paper's start; sigmoid(20) is 1 in float32, min-max.
START, WHOLE = 4.0, 20.0
# Narrower ranges that the search for the start tries.
CLIP_STEPS = 10
# An epoch has at least this many optimizer steps: a small number of batches is used several times.
STEPS = 10


def omniquant(part: Part, spec: WeightSpec, options: OmniQuantOptions) -> Learned:
    """Learn grids for a part of a block; every matrix is then rounded to nearest on its grid.

    The range of each group becomes [sigmoid(beta) min, sigmoid(gamma) max] (the paper's equation 2); with `equivalent`
    inputs are also shifted and scaled, x -> (x - z) / s and W -> W s (equation 3). Gradients pass straight through
    the rounding. Clipping starts from what a search for the least squared error of each group finds, weighted by the
    inputs' mean squares (the paper starts from the whole range), and its rate falls to 0 by a cosine. The result is the
    best of all epochs and of the plain min-max grid, by the error over all batches.
    """
    learner = _Learner(part, spec, options)
    generator = torch.Generator().manual_seed(options.seed)
    objective = part.objective
    order = shuffled(objective.batches, generator)
    best = learner.result(total(objective, learner.parameters()))
    with torch.enable_grad():
        learner.start()
        optimizer = torch.optim.AdamW(learner.groups(), weight_decay=0.0)
        steps = max(objective.batches, STEPS)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs * steps)
        for epoch in range(options.epochs + 1):
            error = total(objective, learner.parameters())
            if error < best.error:
                best = learner.result(error)
            if epoch == options.epochs:
                return best
            for _ in range(steps):
                optimizer.zero_grad()
                loss = objective.error(learner.parameters(), next(order)) * objective.batches
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
    return best


class _Learner:
    """The values that are learned for one part; they begin as plain rounding."""

    def __init__(self, part: Part, spec: WeightSpec, options: OmniQuantOptions) -> None:
        self.part, self.spec, self.options = part, spec, options
        self.weights = {path: part.parameters[f"{path}.weight"].detach().float() for path, _ in part.paths()}
        self.clips: dict[str, tuple[Tensor, Tensor]] = {}
        for path, weight in self.weights.items():
            low, high = ranges(weight, spec.group_size)
            self.clips[path] = torch.full_like(low, WHOLE), torch.full_like(high, WHOLE)
        self.logs: dict[str, Tensor] = {}
        self.shifts: dict[str, Tensor] = {}

    def start(self) -> None:
        """Go to the starting point and ask for gradients."""
        bits, group, symmetric = self.spec.bits, self.spec.group_size, self.spec.symmetric
        for path, site in self.part.paths():
            weight, importance = self.weights[path], site.hessian.diagonal()
            clipped = fit(weight, bits, group, symmetric, CLIP_STEPS, importance, path)
            logits = (clipped.scales / fit(weight, bits, group, symmetric).scales).logit().clamp(max=START)
            self.clips[path] = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        for site in self.part.sites:
            if site.scales is not None:
                self.logs[site.paths[0]] = site.scales.log().requires_grad_()
            if site.shifts is not None:
                self.shifts[site.paths[0]] = site.shifts.clone().requires_grad_()

    def groups(self) -> list[dict[str, object]]:
        """The optimizer's parameter groups."""
        equivalent = [*self.logs.values(), *self.shifts.values()]
        return [
            {"params": [logits for pair in self.clips.values() for logits in pair], "lr": self.options.rate},
            *([{"params": equivalent, "lr": self.options.equivalent_rate}] if equivalent else []),
        ]

    def parameters(self) -> dict[str, Tensor]:
        """Matrices and biases with which unfolded layers compute the same as the folded and rounded layers will."""
        result = {}
        for path, site in self.part.paths():
            columns, rows = self.scales(path, site)
            values = self.round(path, self.weights[path] * columns / rows) * rows / columns
            result[f"{path}.weight"] = values
            bias = self.part.parameters.get(f"{path}.bias")
            if bias is not None and site.paths[0] in self.shifts:
                result[f"{path}.bias"] = bias + (self.weights[path] - values) @ self.shifts[site.paths[0]]
        return result

    def scales(self, path: str, site: Site) -> tuple[Tensor, Tensor]:
        """The factors of the layer's columns (in,) and the divisors of its rows (out, 1) in the fold."""
        weight = self.weights[path]
        columns, rows = torch.ones(weight.shape[1]), torch.ones(len(weight), 1)
        if site.paths[0] in self.logs:
            columns = self.logs[site.paths[0]].exp()
        for other in self.part.sites:
            if other.source == path and other.paths[0] in self.logs:
                behind = self.logs[other.paths[0]].exp()
                rows = torch.cat([behind, torch.ones(len(weight) - len(behind))])[:, None]
        return columns, rows

    def range(self, path: str, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The clipped range of each group, (out, groups) each."""
        low, high = ranges(weight, self.spec.group_size)
        below, above = self.clips[path]
        return low * below.sigmoid(), high * above.sigmoid()

    def round(self, path: str, weight: Tensor) -> Tensor:
        """The matrix rounded to nearest on its clipped grid, with gradients that ignore the rounding."""
        low, high = self.range(path, weight)
        bits, group, count = self.spec.bits, self.spec.group_size, weight.shape[1]
        grid = from_range(low.detach(), high.detach(), bits, group, self.spec.symmetric)
        top, middle = 2**bits - 1, 2 ** (bits - 1)
        if self.spec.symmetric:
            scales, zero_points = (
                through(torch.maximum(high / (middle - 1), -low / middle), grid.scales),
                grid.zero_points,
            )
        else:
            scales = through((high - low) / top, grid.scales)
            zero_points = through(-low / scales, grid.zero_points)
        scale, zero = spread(scales, group, count), spread(zero_points, group, count)
        steps = weight / scale
        codes = (through(steps, steps.detach().round()) + zero).clamp(0, top)
        return (codes - zero) * scale

    def result(self, error: float) -> Learned:
        """Grids and codes of the folded matrices with the current values."""
        rounded = {}
        with torch.no_grad():
            for path, site in self.part.paths():
                columns, rows = self.scales(path, site)
                weight = self.weights[path] * columns / rows
                grid = from_range(*self.range(path, weight), self.spec.bits, self.spec.group_size, self.spec.symmetric)
                rounded[path] = grid, grid.encode(weight)
            scales = {path: log.exp() for path, log in self.logs.items()}
            shifts = {path: shift.clone() for path, shift in self.shifts.items()}
        return Learned(rounded, error, scales, shifts)
