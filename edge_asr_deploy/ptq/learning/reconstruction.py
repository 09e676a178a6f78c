"""Learned rounding: parts of a block, their target outputs, and the squared error of their actual outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from edge_asr_deploy.ptq.grid import Grid

# Parameters by name (`fc1.weight`, `fc1.bias`) that replace those of a model.
Parameters = Mapping[str, Tensor]


class Objective(Protocol):
    """The squared error of a part's output, relative to the output's own square; the batches' errors add up to it."""

    @property
    def batches(self) -> int:
        """How many batches there are."""

    def error(self, parameters: Parameters, batch: int) -> Tensor:
        """The share of one batch, a scalar, differentiable in the parameters."""


@dataclass(frozen=True)
class OutputError:
    """The output error of a part of a block on calibration positions.

    `run(parameters, batch)` gives the outputs (positions, channels), `targets[batch]` are the outputs that it should
    give, and `weights[batch]` (positions,) says how much each position counts.
    """

    run: Callable[[Parameters, int], Tensor]
    targets: Sequence[Tensor]
    weights: Sequence[Tensor]
    power: float

    @property
    def batches(self) -> int:
        """How many batches there are."""
        return len(self.targets)

    def error(self, parameters: Parameters, batch: int) -> Tensor:
        """The weighted squared error of one batch, as a share of the power of all targets."""
        difference = self.run(parameters, batch) - self.targets[batch]
        return (difference.square() * self.weights[batch][:, None]).sum() / self.power


@dataclass(frozen=True)
class LayerError:
    """The output error of layers that share an input, from its Hessian H: tr(D H D^T) / tr(W H W^T), D = W' - W."""

    weights: Parameters
    hessian: Tensor
    power: float
    batches: int = 1

    def error(self, parameters: Parameters, batch: int) -> Tensor:
        """The relative squared output error; there is one batch only."""
        differences = [parameters[name] - weight for name, weight in self.weights.items()]
        return torch.stack([_metric(d, self.hessian) for d in differences]).sum() / self.power


@dataclass(frozen=True)
class Site:
    """Layers of a part that read the same tensor, as module paths, and the Hessian (in, in) of that tensor.

    `scales` (in,) are the channels' scales that learning starts from; None where no layer before can take scales.
    `source` is the layer of this part that takes them, if it is one of this part. `shifts` (in,) are the channels'
    shifts that learning starts from: a LayerNorm's bias takes them, and the layers' own biases undo them. (Keys need no
    bias: a shift of all keys changes no attention.)
    """

    paths: tuple[str, ...]
    hessian: Tensor
    scales: Tensor | None = None
    source: str | None = None
    shifts: Tensor | None = None


@dataclass(frozen=True)
class Part:
    """Layers that are learned together: matrices (out, in) and biases by parameter name, and the error to minimize."""

    parameters: Parameters
    sites: tuple[Site, ...]
    objective: Objective

    def paths(self) -> Iterator[tuple[str, Site]]:
        """Every layer with its site, in the order of the data."""
        for site in self.sites:
            for path in site.paths:
                yield path, site


@dataclass(frozen=True)
class Learned:
    """Grids and codes (out, in), uint8, by module path, and the part's relative squared error with them.

    They belong to matrices into which `scales` and `shifts` (in,), by the first path of their site, have been folded.
    """

    rounded: dict[str, tuple[Grid, Tensor]]
    error: float
    scales: dict[str, Tensor] = field(default_factory=dict)
    shifts: dict[str, Tensor] = field(default_factory=dict)


def output_error(
    run: Callable[[Parameters, int], Tensor], targets: Sequence[Tensor], weights: Sequence[Tensor]
) -> OutputError:
    """The objective of a part whose outputs should be `targets`."""
    power = sum(
        float((t.square() * w[:, None]).sum(dtype=torch.float64)) for t, w in zip(targets, weights, strict=True)
    )
    return OutputError(run, targets, weights, power or 1.0)


def layer_error(weights: Parameters, hessian: Tensor) -> LayerError:
    """The objective of layers for which only the Hessian (in, in) of their shared input is known."""
    metric = hessian.float()
    power = sum(float(_metric(weight, metric)) for weight in weights.values())
    return LayerError(weights, metric, power or 1.0)


def total(objective: Objective, parameters: Parameters) -> float:
    """The error over all batches."""
    with torch.no_grad():
        return sum(float(objective.error(parameters, batch)) for batch in range(objective.batches))


def shuffled(batches: int, generator: torch.Generator) -> Iterator[int]:
    """An endless stream of batch numbers, in another order in every epoch."""
    while True:
        yield from torch.randperm(batches, generator=generator).tolist()


def through(value: Tensor, exact: Tensor) -> Tensor:
    """`exact`, with the gradient of `value`: the straight-through estimator."""
    result: Tensor = _Through.apply(value, exact)  # type: ignore[no-untyped-call]
    return result


def spread(values: Tensor, group: int | None, columns: int) -> Tensor:
    """Values of groups (out, groups) for each of the columns, (out, columns)."""
    width = columns if group is None else group
    return values[..., None].expand(*values.shape, width).reshape(len(values), -1)[:, :columns]


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, exact: Tensor) -> Tensor:
        return exact.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _metric(difference: Tensor, hessian: Tensor) -> Tensor:
    return ((difference @ hessian) * difference).sum()
