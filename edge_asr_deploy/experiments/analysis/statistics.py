"""Ranges, tails and outlier channels of every matrix and of what it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from edge_asr_deploy.progress import Progress, silent
from edge_asr_deploy.ptq.calibration.samples import Sample

# A channel whose largest magnitude is this many times the median channel's is an outlier.
OUTLIER = 6.0


@dataclass(frozen=True)
class Spread:
    """How values lie. `kurtosis`: fourth standardized moment, 3 for a normal distribution.

    `outliers`: input channels whose largest magnitude exceeds six times the median channel's; `peak`: how many times
    the median the largest is.
    """

    low: float
    high: float
    deviation: float
    kurtosis: float
    outliers: int
    peak: float


@dataclass(frozen=True)
class MatrixStatistics:
    """One matrix (out, in): its values, and its inputs on calibration speech; None for the table, which reads tokens
    on one side."""

    path: str
    component: str
    shape: tuple[int, int]
    weight: Spread
    inputs: Spread | None

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class Moments:
    """Running sums over values of shape (positions, channels)."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.powers = torch.zeros(4, dtype=torch.float64)
        self.absmax = torch.zeros(channels)
        self.low, self.high = float("inf"), float("-inf")

    def add(self, values: Tensor) -> None:
        """Take in values (positions, channels)."""
        if not values.numel():
            return
        self.count += values.numel()
        in_double = values.double()
        power = in_double
        for index in range(4):
            self.powers[index] += power.sum()
            power = power * in_double
        self.absmax = torch.maximum(self.absmax, values.abs().amax(0))
        self.low, self.high = min(self.low, values.min().item()), max(self.high, values.max().item())

    def spread(self) -> Spread:
        """What the sums say; ValueError when nothing was taken in."""
        if not self.count:
            raise ValueError("no values")
        m1, m2, m3, m4 = (self.powers / self.count).tolist()
        variance = max(m2 - m1 * m1, 0.0)
        fourth = m4 - 4 * m1 * m3 + 6 * m1 * m1 * m2 - 3 * m1**4
        typical = max(self.absmax.median().item(), 1e-12)
        return Spread(
            low=self.low,
            high=self.high,
            deviation=variance**0.5,
            kurtosis=fourth / variance**2 if variance > 0 else 0.0,
            outliers=int((self.absmax > OUTLIER * typical).sum()),
            peak=self.absmax.max().item() / typical,
        )


def matrix_statistics(
    model: Any, components: Mapping[str, str], samples: Sequence[Sample], progress: Progress = silent
) -> list[MatrixStatistics]:
    """Statistics of every matrix of `components` (module path -> component), inputs without padding.

    `model` is the float one; every sample passes through it once.
    """
    moments: dict[str, Moments] = {}
    frames = 0

    def watch(path: str, component: str) -> Any:
        module = model.get_submodule(path)
        moments[path] = Moments(module.weight.shape[1])

        def catch(_: Any, args: tuple[Tensor, ...]) -> None:
            real = None if component == "decoder" else frames
            moments[path].add(args[0][0, :real].float())

        return module.register_forward_pre_hook(catch)

    handles = [watch(path, component) for path, component in components.items() if component != "embedding"]
    try:
        for number, sample in enumerate(samples, 1):
            frames = sample.frames
            with torch.no_grad():
                model(sample.inputs, decoder_input_ids=sample.tokens)
            progress(f"clip {number}", number, len(samples))
    finally:
        for handle in handles:
            handle.remove()
    result = []
    for path, component in components.items():
        weight = model.get_submodule(path).weight.detach().float()
        own = Moments(weight.shape[1])
        own.add(weight)
        seen = moments.get(path)
        rows, columns = weight.shape
        inputs = seen.spread() if seen is not None and seen.count else None
        result.append(MatrixStatistics(path, component, (rows, columns), own.spread(), inputs))
    return result
