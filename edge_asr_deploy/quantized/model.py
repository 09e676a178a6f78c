"""A whole quantized model as one target runs it: every decision of the recipe that graph and proof need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.quantized.inputs import InputRounding
from edge_asr_deploy.quantized.weight import QuantizedWeight


@dataclass(frozen=True)
class FloatMatrix:
    """A matrix that stays float: 16 or 32 bits."""

    component: str
    bits: int


@dataclass(frozen=True)
class Int8Attention:
    """The encoder's self-attention multiplies integers; its queries are rounded, and attended for, in `blocks`."""

    blocks: int


@dataclass(frozen=True, eq=False)
class WindowEnd:
    """What the encoder's input ends with where it is shorter than the window.

    `positions` (frames, channels), float32, are added to the last frames in place of the positional table's rows.
    `margin`: how many seconds of silence stand behind the clip, these frames included.
    """

    positions: NDArray[np.float32]
    margin: float


@dataclass(frozen=True)
class QuantizedModel:
    """What is stored of a model's matrices and how its products round what they read.

    `family` is its name. `weights` have how their layers round their `inputs`. `floats` are the matrices that stay
    float, by module path; rotations have `rotation_bits`. The stem (convolutions and positional tables) is stored in
    `stem_bits`; of its convolutions those in `convolutions`, by module path, multiply integers. `attention` is None
    where the encoder's attention multiplies floats. The vocabulary head scores its `shortlist` best tokens again,
    exactly; 0: none. `end` is None where short windows end with the last rows of the positional table.
    """

    family: str
    weights: tuple[QuantizedWeight, ...]
    floats: Mapping[str, FloatMatrix]
    stem_bits: int
    rotation_bits: int
    convolutions: Mapping[str, InputRounding]
    attention: Int8Attention | None = None
    shortlist: int = 0
    end: WindowEnd | None = None

    @property
    def by_name(self) -> dict[str, QuantizedWeight]:
        """The weights by module path."""
        return {weight.name: weight for weight in self.weights}
