"""The three ways in which a matrix stores its scales, in numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Output channels that share the two float16 numbers between which their coded scales lie.
SHARED = 16


@dataclass(frozen=True)
class PlainScales:
    """A float16 scale for each group of each output channel: `values` (out, groups)."""

    values: NDArray[np.float16]

    def by_group(self) -> NDArray[np.float32]:
        """The scales as the kernel gets them, (out, groups)."""
        return self.values.astype(np.float32)

    def bits(self, code_bits: int) -> int:
        """Bits stored beside codes of `code_bits`."""
        return self.values.size * 16

    def rows(self, rows: slice) -> PlainScales:
        """Those of some output channels."""
        return PlainScales(self.values[rows])


@dataclass(frozen=True)
class TwoLevelScales:
    """A float16 scale for each output channel, `channels` (out, 1), times a small whole number for each of its groups.

    `multipliers` (out, groups), 1 .. 2**(8 - bits): (code - zero point) * multiplier fits int8, so that the codes
    unpack to a matrix for integer kernels, with one scale for each channel.
    """

    channels: NDArray[np.float16]
    multipliers: NDArray[np.uint8]

    def by_group(self) -> NDArray[np.float32]:
        """The scales as the low-bit kernel gets them, (out, groups)."""
        result: NDArray[np.float32] = self.channels.astype(np.float32) * self.multipliers.astype(np.float32)
        return result

    def bits(self, code_bits: int) -> int:
        """Bits stored beside codes of `code_bits`."""
        return self.channels.size * 16 + self.multipliers.size * (8 - code_bits)

    def rows(self, rows: slice) -> TwoLevelScales:
        """Those of some output channels."""
        return TwoLevelScales(self.channels[rows], self.multipliers[rows])


@dataclass(frozen=True)
class CodedScales:
    """Scales as codes (out, groups) of `width` bits between two float16 numbers that 16 output channels share.

    scale[o, g] = base[o // 16, g] + codes[o, g] * step[o // 16, g], computed in float32 as onnxruntime does.
    """

    codes: NDArray[np.uint8]
    base: NDArray[np.float16]
    step: NDArray[np.float16]
    width: int

    def by_group(self) -> NDArray[np.float32]:
        """The scales (out, groups)."""
        base, step = (by_channel(v, len(self.codes)).astype(np.float32) for v in (self.base, self.step))
        result: NDArray[np.float32] = self.codes.astype(np.float32) * step + base
        return result

    def bits(self, code_bits: int) -> int:
        """Bits stored, whatever the codes of the matrix have."""
        return self.codes.size * self.width + (self.base.size + self.step.size) * 16


Scales = PlainScales | TwoLevelScales | CodedScales


def by_channel(shared: NDArray[Any], rows: int) -> NDArray[Any]:
    """What 16 output channels share (out / 16, groups), for each of them (out, groups)."""
    return np.repeat(shared, SHARED, axis=0)[:rows]
