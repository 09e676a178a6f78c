"""Where `ptq` and `graph` meet: one weight matrix as integer codes, in numpy, without torch or onnx."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Activation:
    """How a layer's input is rounded to uint8, one scale and zero point for the whole tensor.

    x ~ (code - zero_point) * scale. Both are None where the range is taken anew from every call's input.
    """

    kind: Literal["int8-dynamic", "int8-static"]
    scale: np.float32 | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class QuantizedWeight:
    """A matrix W of shape (out, in), as torch's Linear holds it, on an affine grid along its input channels.

    W[o, i] ~ (codes[o, i] - zero_points[o, g]) * scales[o, g] with g = i // group (the last group may be ragged), or
    g = 0 when `group` is None (one scale per output channel). Codes are unsigned, 0 .. 2**bits - 1; a symmetric grid
    has every zero point at 2**(bits - 1). Scales are float16, the precision they are stored in, so that the codes were
    rounded against the very numbers the device multiplies with.

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
    scales: NDArray[np.float16]
    zero_points: NDArray[np.uint8]
    error: float | None = None
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

    def dequantize(self) -> NDArray[np.float32]:
        """The matrix that the codes stand for, shape (out, in): computed in float32 as onnxruntime does."""
        columns = self.codes.shape[1]
        width = columns if self.group is None else self.group
        scales = np.repeat(self.group_scales, width, axis=1)[:, :columns]
        zero_points = np.repeat(self.zero_points.astype(np.float32), width, axis=1)[:, :columns]
        values: NDArray[np.float32] = (self.codes.astype(np.float32) - zero_points) * scales
        return values
