"""A quantized matrix whose scales can learn while its codes stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from edge_asr_deploy.ptq.grid import grouped
from edge_asr_deploy.quantized.outliers import FinerCodes
from edge_asr_deploy.quantized.scales import SHARED, CodedScales, PlainScales, Scales, TwoLevelScales, by_channel
from edge_asr_deploy.quantized.weight import QuantizedWeight


class ScaledMatrix:
    """W = units * scales (out, in): whole numbers that stay, and what the bundle stores of the scales, which learns.

    `changes` are what is learned, one tensor for each stored one, of its shape: by what part of itself it grows. A
    bundle of plain scales stores all of them, of two-level scales one for each channel, of coded scales base and step.
    """

    def __init__(self, weight: QuantizedWeight) -> None:
        self.weight = weight
        codes, zero_points, _ = weight.kernel_operands()
        _, self.columns = codes.shape
        self.group = self.columns if weight.group is None else weight.group
        zeros = np.repeat(zero_points.astype(np.int16), self.group, axis=1)[:, : self.columns]
        self.units = torch.from_numpy(codes.astype(np.int16) - zeros)
        self.stored = [torch.from_numpy(one.astype(np.float32)) for one in _stored(weight.scales)]
        self.changes = [torch.zeros_like(one) for one in self.stored]

    def matrix(self) -> Tensor:
        """The matrix as it is now (out, in), float32, outliers included."""
        with torch.no_grad():
            scales = self._scales(self.changes).repeat_interleave(self.group, 1)[:, : self.columns]
            values: Tensor = self.units * scales
        if (columns := self.weight.float_columns) is not None:
            values[:, torch.from_numpy(columns.index.astype(np.int64))] = torch.from_numpy(columns.values).float()
        return values

    def gradients(self, gradient: Tensor) -> list[Tensor]:
        """Those of the changes, from the gradient of the matrix (out, in)."""
        sums = grouped(gradient * self.units, self.group).sum(-1)
        changes = [one.detach().requires_grad_() for one in self.changes]
        with torch.enable_grad():
            return list(torch.autograd.grad(self._scales(changes), changes, sums))

    def _scales(self, changes: list[Tensor]) -> Tensor:
        """The scales as the kernel multiplies with them (out, groups)."""
        first, *others = [one * (1 + change) for one, change in zip(self.stored, changes, strict=True)]
        scales = self.weight.scales
        if isinstance(scales, TwoLevelScales):
            result = first * torch.from_numpy(scales.multipliers.astype(np.float32))
        elif isinstance(scales, CodedScales):
            base, step = (one.repeat_interleave(SHARED, 0)[: len(scales.codes)] for one in (first, *others))
            result = torch.from_numpy(scales.codes.astype(np.float32)) * step + base
        else:
            result = first
        if isinstance(self.weight.outliers, FinerCodes):
            shifts = by_channel(self.weight.outliers.shifts, len(result)).astype(np.int32)
            result = result / torch.from_numpy((1 << shifts).astype(np.float32))
        return result

    def learned(self) -> QuantizedWeight:
        """The weight with the scales as they are now; what was measured when it was rounded holds no longer."""
        now = [(one * (1 + change)).numpy() for one, change in zip(self.stored, self.changes, strict=True)]
        return replace(
            self.weight, scales=_with(self.weight.scales, [one.astype(np.float16) for one in now]), error=None
        )


def _stored(scales: Scales) -> list[np.ndarray]:
    """The float16 numbers of the scales."""
    match scales:
        case PlainScales():
            return [scales.values]
        case TwoLevelScales():
            return [scales.channels]
        case CodedScales():
            return [scales.base, scales.step]


def _with(scales: Scales, stored: list[np.ndarray]) -> Scales:
    """The scales with other float16 numbers."""
    match scales:
        case PlainScales():
            return PlainScales(stored[0])
        case TwoLevelScales():
            return replace(scales, channels=stored[0])
        case CodedScales():
            return replace(scales, base=stored[0], step=stored[1])
