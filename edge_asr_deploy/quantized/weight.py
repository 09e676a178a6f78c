"""Where `ptq` and `graph` meet: one weight matrix as integer codes, in numpy, without torch or onnx."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.quantized.outliers import FloatColumns, ScaleCodes, WideCodes, by_channel, offset


@dataclass(frozen=True)
class Activation:
    """How a layer's input is rounded to uint8: x ~ (code - zero_point) * scale.

    `int8-static` has both fixed, `int8-dynamic` neither: they are taken anew from every call's input, one pair for the
    whole tensor. `int8-token` has a fixed zero point, and a scale for each row of channels: its largest value, or
    `floor` where that is smaller, becomes the last code (with zero in the middle its largest magnitude).
    """

    kind: Literal["int8-dynamic", "int8-static", "int8-token"]
    scale: np.float32 | None = None
    zero_point: int | None = None
    floor: np.float32 | None = None


@dataclass(frozen=True)
class QuantizedWeight:
    """A matrix W of shape (out, in), as torch's Linear holds it, on an affine grid along its input channels.

    W[o, i] ~ (codes[o, i] - zero_points[o, g]) * scales[o, g] with g = i // group (the last group may be ragged), or
    g = 0 when `group` is None (one scale per output channel). Codes are unsigned, 0 .. 2**bits - 1; a symmetric grid
    has every zero point at 2**(bits - 1). Scales are float16, the precision they are stored in, so that the codes were
    rounded against the very numbers the device multiplies with.

    Hybrid methods keep some weights better than that. `columns` are whole input channels in float16; their codes are
    the zero points. `wide` are single weights on a finer grid; their codes do not count. With `scale_codes` the scales
    are float32 and made of those, which are what is stored.

    `name` is the module's path (`model.encoder.layers.0.fc1`); for the tied table it is that of the embedding, and
    the output channels are the vocabulary. `error` is relative: of the layer's output on the calibration data where it
    was calibrated, else of the matrix itself.

    With `multipliers` (out, groups), 1 .. 2**(8 - bits), the weight has two levels: `scales` is (out, 1), a group's
    scale is its multiplier times that, and (codes - zero_points) * multipliers fits int8. `activation` says how the
    layer's input is rounded; None keeps it float.
    """

    name: str
    component: str
    method: str
    bits: int
    group: int | None
    symmetric: bool
    codes: NDArray[np.uint8]
    scales: NDArray[np.float16] | NDArray[np.float32]
    zero_points: NDArray[np.uint8]
    error: float | None = None
    columns: FloatColumns | None = None
    wide: WideCodes | None = None
    scale_codes: ScaleCodes | None = None
    multipliers: NDArray[np.uint8] | None = None
    activation: Activation | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        rows, columns = self.codes.shape
        return rows, columns

    @property
    def group_scales(self) -> NDArray[np.float32]:
        """The scale of every group, shape (out, groups)."""
        scales: NDArray[np.float32] = self.scales.astype(np.float32)
        return scales if self.multipliers is None else scales * self.multipliers.astype(np.float32)

    @property
    def outliers(self) -> int | None:
        """How many weights are kept better than the codes; None where the method keeps none by design."""
        if self.columns is not None:
            return self.columns.values.size
        if self.wide is not None:
            return len(self.wide.positions)
        return None

    @property
    def effective_bits(self) -> float:
        """Bits per weight of all that is stored: codes, scales, zero points, outliers and where they are."""
        total = self.codes.size * self.bits
        total += self.scales.size * 16 if self.scale_codes is None else self.scale_codes.bits
        total += 0 if self.multipliers is None else self.multipliers.size * (8 - self.bits)
        if not self.symmetric:
            total += self.zero_points.size * self.zero_point_bits
        total += 0 if self.columns is None else self.columns.bits
        total += 0 if self.wide is None else self.wide.bits
        return total / self.codes.size

    @property
    def zero_point_bits(self) -> int:
        """Bits that an asymmetric grid's zero point is stored in: packed like codes beside packed scales."""
        if self.scale_codes is not None:
            return self.bits
        return 4 if self.bits <= 4 else 8

    def rows(self, rows: slice) -> QuantizedWeight:
        """Some of the output channels; ValueError where those share statistics with others."""
        if self.wide is not None or self.scale_codes is not None:
            raise ValueError(f"{self.name}: its output channels share statistics")
        columns = self.columns and FloatColumns(self.columns.index, self.columns.values[rows])
        return replace(
            self,
            codes=self.codes[rows],
            scales=self.scales[rows],
            zero_points=self.zero_points[rows],
            multipliers=None if self.multipliers is None else self.multipliers[rows],
            columns=columns,
        )

    def dequantize(self) -> NDArray[np.float32]:
        """The matrix that the device computes with, outliers included, shape (out, in): in float32 as onnxruntime."""
        codes, zero_points, scales = self.kernel_operands()
        zeros, scales = self._by_input(zero_points.astype(np.float32)), self._by_input(scales)
        values: NDArray[np.float32] = (codes.astype(np.float32) - zeros) * scales
        if self.columns is not None:
            values[:, self.columns.index] = self.columns.values
        return values

    def kernel_operands(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
        """Codes (out, in), zero points and scales (out, groups) as the low-bit kernel gets them, wide codes merged."""
        scales = self.group_scales
        if self.wide is None:
            return self.codes, self.zero_points, scales
        shifts = by_channel(self.wide.shifts, len(self.codes)).astype(np.int32)
        starts = offset(self.bits, shifts)
        codes = (self.codes.astype(np.int32) << self._by_input(shifts)) + self._by_input(starts)
        merged = codes.T.reshape(-1)
        merged[self.wide.positions] = self.wide.codes
        zero_points = (self.zero_points.astype(np.int32) << shifts) + starts
        factors = (1 << shifts).astype(np.float32)
        return merged.reshape(codes.T.shape).T.astype(np.uint8), zero_points.astype(np.uint8), scales / factors

    def _by_input(self, grouped: NDArray[Any]) -> NDArray[Any]:
        """What input channels share (out, groups), for each of them (out, in)."""
        columns = self.codes.shape[1]
        return np.repeat(grouped, columns if self.group is None else self.group, axis=1)[:, :columns]
