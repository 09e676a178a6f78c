"""The parts of decoding in which model families differ: inputs, prompt, and the end of decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rules:
    """Which tokens greedy decoding may take. `end` ends decoding; `never` and `never_first` are not allowed."""

    end: frozenset[int]
    never: NDArray[np.intp]
    never_first: NDArray[np.intp]


class Family(Protocol):
    """Whisper or Moonshine, as its configuration files describe it."""

    @property
    def rules(self) -> Rules:
        """The rules of greedy decoding."""

    @property
    def window_seconds(self) -> int:
        """The longest audio, in seconds, for one run of the encoder."""

    def prompt(self, language: str | None, task: str | None) -> tuple[int | None, ...]:
        """The first tokens, with None in place of a language to be detected. UserError if the model lacks them."""

    def languages(self) -> dict[int, str]:
        """The language tokens and their names, for detection."""

    def inputs(self, samples: NDArray[np.float32], seconds: int | None = None) -> dict[str, NDArray[np.generic]]:
        """The inputs of encoder and decoder for samples (n,) at 16 kHz, by their names in Optimum's graphs.

        `seconds` says how much of a fixed window the encoder gets; None stands for the whole window.
        """

    def join(self, hidden: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[np.generic]]:
        """Decoder inputs for several clips, one to a row, from the encoder's output for each clip: (1, frames, n)."""

    def longest(self, samples: int, prompt: int, said: tuple[str, int] | None = None) -> int:
        """How many tokens may follow a prompt of `prompt` tokens, for audio of `samples` samples.

        `said`: the text so far and its number of tokens, for a row that has reached the limit of an earlier answer.
        """
