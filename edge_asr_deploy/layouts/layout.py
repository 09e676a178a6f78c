"""What a layout is: how files are written for an engine, and how that engine hears a clip with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Heard:
    """The tokens of a clip, without prompt and end. `is_capped`: the engine stopped before the model did."""

    tokens: Sequence[int]
    is_capped: bool = False


@dataclass(frozen=True)
class Layout:
    """The same weights, arranged for another engine.

    `arrange` reads the bundle in its first argument and writes everything that the engine needs into its second, an
    empty folder. `hear` runs these files on samples (n,) at 16 kHz as the engine calls them; its arguments are the
    bundle, that folder, and the samples. `usage` gives for a family's name the Markdown that says how the engine opens
    them; FOLDER stands for their place.
    """

    arrange: Callable[[Path, Path], None]
    hear: Callable[[Path, Path, NDArray[np.float32]], Heard]
    usage: Callable[[str], str]
