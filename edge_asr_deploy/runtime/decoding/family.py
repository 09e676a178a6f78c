"""What a model family adds to an encoder and a cached decoder: its input, its prompt, and when decoding ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rules:
    """Which tokens greedy decoding may take: `end` ends it, `never` and `never_first` are passed over."""

    end: frozenset[int]
    never: NDArray[np.intp]
    never_first: NDArray[np.intp]


class Family(Protocol):
    """Whisper or Moonshine, as its configuration files describe it."""

    @property
    def rules(self) -> Rules:
        """Of greedy decoding."""

    @property
    def first_timestamp(self) -> int | None:
        """The first token id that stands for a time; None when there is none."""

    @property
    def window_seconds(self) -> int:
        """The longest audio for one encoder run."""

    def prompt(self, language: str | None, task: str | None) -> tuple[int | None, ...]:
        """Tokens to begin with; None where the language has to be detected. UserError for what the model lacks."""

    def languages(self) -> dict[int, str]:
        """Language tokens, for detection."""

    def inputs(self, samples: NDArray[np.float32], seconds: int | None = None) -> dict[str, NDArray[np.generic]]:
        """Encoder and decoder inputs made from samples (n,), 16 kHz, by the names they have in Optimum's graphs.

        `seconds`: how much of its window an encoder with a fixed one is given, None for all of it.
        """

    def join(self, hidden: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[np.generic]]:
        """Decoder inputs for several clips at once, one a row, from what the encoder gave for each: (1, frames, n)."""

    def longest(self, samples: int, prompt: int) -> int:
        """How many tokens decoding may add after `prompt` tokens, for audio of that many samples."""
