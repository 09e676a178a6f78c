"""What calibration learns of a layer's input: second moments, means and extremes per channel."""

from __future__ import annotations

import torch
from torch import Tensor

# From so many channels on, products are computed in strips of so many. Whole strips give the same sums, bit by bit.
MANY, STRIP = 3072, 512


class Statistics:
    """Sums over the positions (audio frames or tokens) that reached a layer with `channels` inputs.

    A position counts with its weight: 1 for a real one, 0 for padding, anything between for methods that say so.
    """

    def __init__(self, channels: int) -> None:
        self.weight = 0.0
        self.absmax = torch.zeros(channels)
        self._sum = torch.zeros(channels, dtype=torch.float64)
        self._magnitudes = torch.zeros(channels, dtype=torch.float64)
        self._products = torch.zeros(channels, channels, dtype=torch.float64)

    def add(self, inputs: Tensor, weights: Tensor) -> None:
        """Take in positions of shape (positions, channels), float32, with their weights (positions,)."""
        inputs, weights = inputs[weights > 0], weights[weights > 0]
        if not len(weights):
            return
        scaled = inputs * weights.sqrt()[:, None]
        self.weight += float(weights.sum())
        self.absmax = torch.maximum(self.absmax, inputs.abs().amax(0))
        self._sum += (inputs * weights[:, None]).sum(0)
        self._magnitudes += (inputs.abs() * weights[:, None]).sum(0)
        self._products += _gram(scaled)

    @property
    def mean(self) -> Tensor:
        """The mean input, shape (channels,), float32."""
        return (self._sum / max(self.weight, 1e-12)).float()

    @property
    def magnitude(self) -> Tensor:
        """The mean of the inputs' absolute values, shape (channels,), float32."""
        return (self._magnitudes / max(self.weight, 1e-12)).float()

    @property
    def hessian(self) -> Tensor:
        """H = 2/n sum x x^T (GPTQ, arXiv 2210.17323), shape (channels, channels), float64."""
        return self._products * (2 / max(self.weight, 1e-12))


def _gram(values: Tensor) -> Tensor:
    """values^T values, (channels, channels): of many channels in strips from the diagonal on, 40 % less work."""
    channels = values.shape[1]
    if channels < MANY or channels % STRIP:
        return values.T @ values
    result = torch.empty(channels, channels)
    for start in range(0, channels, STRIP):
        strip = values[:, start : start + STRIP].T @ values[:, start:]
        result[start : start + STRIP, start:] = strip
        result[start + STRIP :, start : start + STRIP] = strip[:, STRIP:].T
    return result


class Drift:
    """How far the float model's activations lie from those of the model that is quantized, where a layer reads them.

    `outputs`: how many channels the layer adds to the residual stream; 0 where it adds nothing to it.
    """

    def __init__(self, channels: int, outputs: int = 0) -> None:
        self.weight = 0.0
        self._sum = torch.zeros(channels, dtype=torch.float64)
        self._products = torch.zeros(channels, channels, dtype=torch.float64)
        self._residual_sum = torch.zeros(outputs, dtype=torch.float64)
        self._residual_products = torch.zeros(outputs, channels, dtype=torch.float64)

    def add(self, inputs: Tensor, originals: Tensor, weights: Tensor, residual: Tensor | None = None) -> None:
        """Take in positions (positions, channels), float32, as they are and as the float model has them.

        `residual` (positions, outputs): what the float model's residual stream holds there, less what this one's does.
        """
        self.weight += float(weights.sum())
        away = (originals - inputs) * weights[:, None]
        self._sum += away.sum(0)
        self._products += away.T @ inputs
        if residual is not None:
            away = residual * weights[:, None]
            self._residual_sum += away.sum(0)
            self._residual_products += away.T @ inputs

    @property
    def matrix(self) -> Tensor:
        """D = 2/n sum (x - x') x'^T (QEP), x' the input and x its original, (channels, channels), float64."""
        return self._products * (2 / max(self.weight, 1e-12))

    @property
    def residual(self) -> Tensor:
        """R = 2/n sum (r - r') x'^T, r' the residual stream and r the float model's, (outputs, channels), float64."""
        return self._residual_products * (2 / max(self.weight, 1e-12))

    @property
    def mean(self) -> Tensor:
        """The mean of x - x', (channels,), float64."""
        return self._sum / max(self.weight, 1e-12)

    @property
    def residual_mean(self) -> Tensor:
        """The mean of r - r', (outputs,), float64."""
        return self._residual_sum / max(self.weight, 1e-12)


def output_error(weight: Tensor, values: Tensor, hessian: Tensor | None) -> float:
    """||X(W - Q)|| / ||XW|| on the calibration inputs behind the Hessian; without one, of the matrices themselves."""
    reference, difference = weight.float(), weight.float() - values
    if hessian is None:
        top, bottom = difference.square().sum(), reference.square().sum()
    else:
        metric = hessian.float()
        top, bottom = ((m @ metric).mul_(m).sum().clamp(min=0) for m in (difference, reference))
    return float((top / bottom).sqrt()) if bottom > 0 else 0.0
