"""The parts of decoding in which model families differ: inputs, prompt, and the end of decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.families.structure import Alignment
from edge_asr_deploy.runtime.decoding.prompting import Prompting
from edge_asr_deploy.runtime.decoding.timestamps import Timestamps


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

    @property
    def start(self) -> int:
        """The token that begins a text."""

    @property
    def frame_seconds(self) -> float:
        """What one frame of the encoder's output stands for."""

    @property
    def alignment(self) -> Alignment:
        """The cross-attentions that follow the words."""

    @property
    def timestamps(self) -> Timestamps | None:
        """The tokens for times; None for a model without them."""

    @property
    def no_speech(self) -> int | None:
        """The token whose probability says that nobody speaks; None for a model without one."""

    @property
    def prompting(self) -> Prompting:
        """How text before the audio becomes tokens."""

    def prompt(self, language: str | None, task: str | None, times: bool = False) -> tuple[int | None, ...]:
        """The first tokens, with None in place of a language to be detected. UserError if the model lacks them.

        With `times` timestamp tokens follow, where the model has some.
        """

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
