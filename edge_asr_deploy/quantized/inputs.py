"""How a product rounds what it reads to uint8: x ~ (code - zero point) * scale.

Decided once, from the recipe and the target; the graph, the proof and fake quantization read the same value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

# The largest code of an unsigned and of a signed operand.
TOP, SIGNED_TOP = 255, 127
# Zero points of rows. Rows that nothing bounds below lie around zero. What GELU gives is never below -0.17, which takes
# 24 codes: its rounding errors on whisper tiny.en are within an eighth of those on a range fitted to each row.
MIDDLE, LOW = 128, 24
# The least magnitude of a row, so that the scale of silence can be divided by.
SMALLEST = 1e-20


@dataclass(frozen=True)
class Dynamic:
    """One scale and zero point for the whole tensor, taken anew from every call's input (DynamicQuantizeLinear)."""

    kind: ClassVar[str] = "int8-dynamic"


@dataclass(frozen=True)
class Static:
    """A fixed scale and zero point, measured on calibration speech."""

    kind: ClassVar[str] = "int8-static"

    scale: np.float32
    zero_point: int


@dataclass(frozen=True)
class PerRow:
    """A fixed zero point, and a scale for each row of channels from its largest value, at least `floor`.

    With zero in the middle the largest magnitude of a row becomes the last code, else the largest value does.
    """

    kind: ClassVar[str] = "int8-token"

    zero_point: int
    floor: np.float32

    @property
    def is_centered(self) -> bool:
        """True where zero is in the middle of the codes."""
        return self.zero_point == MIDDLE


InputRounding = Dynamic | Static | PerRow


def affine(low: float, high: float) -> Static:
    """A fixed grid over [low, high], which holds zero; zero is one of its points."""
    scale = np.float32((high - low) / TOP) if high > low else np.float32(1)
    return Static(scale, int(np.clip(np.rint(-low / scale), 0, TOP)))


def per_row(lowest: float | None = None) -> PerRow:
    """Rows around zero, or with `lowest` rows of which no value is below it: zero is then nearer to the first code."""
    if lowest is None:
        return PerRow(MIDDLE, np.float32(SMALLEST))
    # The scale is never so fine that `lowest` would be below the first code.
    return PerRow(LOW, np.float32(max(-lowest / LOW * (TOP - LOW), SMALLEST)))
