"""Correcting layers, before and after they are rounded, for what the layers before them have lost."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from edge_asr_deploy.families import Block, SharedInput
from edge_asr_deploy.ptq.methods import bias_change, qep
from edge_asr_deploy.ptq.statistics import Drift, Statistics
from edge_asr_deploy.recipe.methods import QepOptions


def stream_read(block: Block, shared: SharedInput, correction: QepOptions | None) -> str | None:
    """The LayerNorm that reads the residual stream that these layers add to, where the correction asks for it."""
    return None if correction is None or not correction.residual else block.stream_of(shared)


class Corrected:
    """Layers that share an input: their matrices (out, in) by path, corrected in place, and then their biases."""

    def __init__(
        self, weights: Mapping[str, Tensor], statistics: Statistics, drift: Drift, options: QepOptions
    ) -> None:
        self.weights, self.statistics, self.drift, self.options = weights, statistics, drift, options
        self.floats = {path: weight.clone() for path, weight in weights.items()} if options.residual else {}
        residual = drift.residual if len(drift.residual) else None
        for weight in weights.values():
            weight.copy_(qep(weight, statistics.hessian, drift.matrix, options, residual))

    def move_biases(self, biases: Mapping[str, Tensor | None]) -> None:
        """Once the matrices hold their rounded values: let each layer's mean output be the float model's."""
        for path, weight in self.floats.items():
            bias = biases[path]
            if bias is not None:
                bias.data.add_(bias_change(weight, self.weights[path], self.statistics.mean, self.drift))
