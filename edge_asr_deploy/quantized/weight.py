"""Where `ptq` and `graph` meet: one weight matrix as integer codes, in numpy, without torch or onnx."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.quantized.inputs import InputRounding
from edge_asr_deploy.quantized.outliers import FinerCodes, FloatColumns, Outliers, offset
from edge_asr_deploy.quantized.rare import RareRows
from edge_asr_deploy.quantized.scales import CodedScales, Scales, TwoLevelScales, by_channel


@dataclass(frozen=True)
class QuantizedWeight:
    """A matrix W of shape (out, in), as torch's Linear holds it, on an affine grid along its input channels.

    W[o, i] ~ (codes[o, i] - zero_points[o, g]) * scale[o, g] with g = i // group (the last group may be ragged), or
    g = 0 when `group` is None (one scale per output channel). Codes are unsigned, 0 .. 2**bits - 1; a symmetric grid
    has every zero point at 2**(bits - 1). Scales are stored in float16 or as codes; the codes were rounded against the
    very numbers that the device multiplies with.

    `outliers` are weights that a hybrid method keeps finer than that: whole input channels in float16, whose codes are
    the zero points, or single weights on a finer grid, whose codes do not count. None where the method keeps none by
    design. `inputs` says how the layer's input is rounded; None keeps it float.

    `name` is the module's path (`model.encoder.layers.0.fc1`); for the tied table it is that of the embedding, and
    the output channels are the vocabulary, of which `rare` ones may be coarser. `error` is relative: of the layer's
    output on the calibration data where it was calibrated, else of the matrix itself.
    """

    name: str
    component: str
    method: str
    bits: int
    group: int | None
    symmetric: bool
    codes: NDArray[np.uint8]
    zero_points: NDArray[np.uint8]
    scales: Scales
    outliers: Outliers | None = None
    inputs: InputRounding | None = None
    error: float | None = None
    rare: RareRows | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        rows, columns = self.codes.shape
        return rows, columns

    @property
    def float_columns(self) -> FloatColumns | None:
        """Input channels that are kept in float16, where there are such."""
        return self.outliers if isinstance(self.outliers, FloatColumns) else None

    @property
    def effective_bits(self) -> float:
        """Bits per weight of all that is stored: codes, scales, zero points, outliers and where they are."""
        total = self.codes.size * self.bits + self.scales.bits(self.bits)
        if not self.symmetric:
            total += self.zero_points.size * self.zero_point_bits
        total += 0 if self.outliers is None else self.outliers.bits
        if self.rare is not None:
            total -= self.rare.number * self.codes.shape[1] * self.rare.dropped
        return total / self.codes.size

    @property
    def zero_point_bits(self) -> int:
        """Bits that an asymmetric grid's zero point is stored in: packed like codes beside coded scales."""
        if isinstance(self.scales, CodedScales):
            return self.bits
        return 4 if self.bits <= 4 else 8

    def rows(self, rows: slice) -> QuantizedWeight:
        """Some of the output channels; ValueError where those share statistics with others."""
        if isinstance(self.scales, CodedScales) or isinstance(self.outliers, FinerCodes) or self.rare is not None:
            raise ValueError(f"{self.name}: its output channels share statistics")
        columns = self.float_columns
        return replace(
            self,
            codes=self.codes[rows],
            zero_points=self.zero_points[rows],
            scales=self.scales.rows(rows),
            outliers=None if columns is None else FloatColumns(columns.index, columns.values[rows]),
        )

    def dequantize(self) -> NDArray[np.float32]:
        """The matrix that the device computes with, outliers included, shape (out, in): in float32 as onnxruntime."""
        codes, zero_points, scales = self.kernel_operands()
        zeros, scales = self._by_input(zero_points.astype(np.float32)), self._by_input(scales)
        values: NDArray[np.float32] = (codes.astype(np.float32) - zeros) * scales
        if (columns := self.float_columns) is not None:
            values[:, columns.index] = columns.values
        return values

    def int8_products(self) -> NDArray[np.int32]:
        """What an integer kernel multiplies with, (out, in): codes less zero points, times multipliers if any."""
        codes, zero_points, _ = self.kernel_operands()
        products: NDArray[np.int32] = codes.astype(np.int32) - self._by_input(zero_points)
        if isinstance(self.scales, TwoLevelScales):
            products = products * self._by_input(self.scales.multipliers)
        return products

    def kernel_operands(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
        """Codes (out, in), zero points and scales (out, groups) as the low-bit kernel gets them, finer codes merged."""
        scales = self.scales.by_group()
        if not isinstance(self.outliers, FinerCodes):
            return self.codes, self.zero_points, scales
        shifts = by_channel(self.outliers.shifts, len(self.codes)).astype(np.int32)
        starts = offset(self.bits, shifts)
        codes = (self.codes.astype(np.int32) << self._by_input(shifts)) + self._by_input(starts)
        merged = codes.T.reshape(-1)
        merged[self.outliers.positions] = self.outliers.codes
        zero_points = (self.zero_points.astype(np.int32) << shifts) + starts
        factors = (1 << shifts).astype(np.float32)
        return merged.reshape(codes.T.shape).T.astype(np.uint8), zero_points.astype(np.uint8), scales / factors

    def _by_input(self, grouped: NDArray[Any]) -> NDArray[Any]:
        """What input channels share (out, groups), for each of them (out, in)."""
        columns = self.codes.shape[1]
        return np.repeat(grouped, columns if self.group is None else self.group, axis=1)[:, :columns]
