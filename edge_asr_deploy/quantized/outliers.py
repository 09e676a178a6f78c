"""The two ways in which a matrix keeps some of its weights finer than its codes, in numpy, as stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Codes of single outliers, and of the kernel that computes with them.
FINER_BITS = 8


@dataclass(frozen=True)
class FloatColumns:
    """Input channels kept in float16: `values` (out, k) for the channels `index` (k,), ascending."""

    index: NDArray[np.int64]
    values: NDArray[np.float16]

    @property
    def count(self) -> int:
        """Weights kept."""
        return self.values.size

    @property
    def bits(self) -> int:
        """Bits stored: values, and 16 for each index."""
        return self.values.size * 16 + self.index.size * 16


@dataclass(frozen=True)
class FinerCodes:
    """Single weights kept as 8-bit codes on a grid 2**shift times finer than their group's, and reaching beyond it.

    `positions` (n,) are flat ones in the matrix [in, out], ascending; `shifts` (out / 16, groups) hold for 16 output
    channels each. A code c of the matrix is the finer code (c << shift) + offset, so that the matrix and its outliers
    together are one matrix of 8-bit codes, whose scales are 2**shift times smaller.
    """

    positions: NDArray[np.int64]
    codes: NDArray[np.uint8]
    shifts: NDArray[np.uint8]

    @property
    def count(self) -> int:
        """Weights kept."""
        return len(self.positions)

    @property
    def bits(self) -> int:
        """Bits stored: codes and the gaps between them, fillers included, and shifts; without outliers nothing is."""
        if not len(self.positions):
            return 0
        width = gap_bits(self.positions)
        return (FINER_BITS + width) * len(with_fillers(self.positions, width)) + self.shifts.size * 8


Outliers = FloatColumns | FinerCodes


def offset(bits: int, shift: NDArray[Any]) -> NDArray[Any]:
    """Where the codes of `bits` bits begin among the finer ones: in the middle, with equal room below and above."""
    return (1 << (FINER_BITS - 1)) - (1 << (bits - 1 + shift))


def gap_bits(positions: NDArray[np.int64]) -> int:
    """8 or 16, the width of gaps between ascending positions that takes fewer bytes with its fillers."""
    return min((8, 16), key=lambda width: (FINER_BITS + width) * len(with_fillers(positions, width)))


def with_fillers(positions: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Ascending positions with such others among them that no gap, the first from 0, exceeds `width` bits."""
    most = (1 << width) - 1
    gaps = np.diff(positions, prepend=0)
    steps = np.maximum(1, -(-gaps // most))
    last = np.cumsum(steps) - 1
    result = np.full(int(steps.sum()), most, dtype=np.int64)
    result[last] = gaps - (steps - 1) * most
    filled: NDArray[np.int64] = np.cumsum(result)
    return filled
