"""Moonshine: raw audio of any length, one start token, and a cap on the tokens per second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.families import moonshine
from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
from edge_asr_deploy.runtime.decoding.configuration import MOST_TOKENS, read_generation
from edge_asr_deploy.runtime.decoding.family import Rules
from edge_asr_deploy.runtime.decoding.prompting import Prompting
from edge_asr_deploy.runtime.decoding.timestamps import Timestamps
from edge_asr_deploy.runtime.decoding.whisper import refuse_choice


class Moonshine:
    """A Moonshine of any size."""

    window_seconds: int = moonshine.WINDOW_SECONDS

    def __init__(self, bundle: Path) -> None:
        generation = read_generation(bundle)
        self.start = generation.token("decoder_start_token_id")
        self._positions = generation.count("max_position_embeddings", moonshine.POSITIONS, MOST_TOKENS)
        nothing = np.zeros(0, np.intp)
        self.rules = Rules(end=generation.tokens("eos_token_id", required=True), never=nothing, never_first=nothing)
        self.frame_seconds = moonshine.SAMPLES_PER_FRAME / SAMPLE_RATE
        self.timestamps: Timestamps | None = None
        self.no_speech: int | None = None
        self.prompting = Prompting(bundle, None, 0)
        layers, heads = (
            generation.count(f"decoder_num_{name}", 1, MOST_TOKENS) for name in ("hidden_layers", "attention_heads")
        )
        self.alignment = moonshine.alignment(layers, heads)
        self._ones = np.ones((1, 0), np.int64)

    def prompt(self, language: str | None, task: str | None, times: bool = False) -> tuple[int | None, ...]:
        """The start token."""
        refuse_choice(language, task)
        return (self.start,)

    def languages(self) -> dict[int, str]:
        """Empty: a Moonshine knows one language and has no token for it."""
        return {}

    def inputs(self, samples: NDArray[np.float32], seconds: int | None = None) -> dict[str, NDArray[np.generic]]:
        """`input_values`: float32 (1, n), and masks of the same length for encoder and decoder.

        The decoder downsamples its mask itself, so both masks count samples. `seconds` is ignored, because Moonshine
        takes audio of any length without padding.
        """
        samples = np.pad(samples, (0, max(0, moonshine.SHORTEST - len(samples))))
        mask = self._all(len(samples))
        return {"input_values": samples[None], "attention_mask": mask, "encoder_attention_mask": mask}

    def join(self, hidden: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[np.generic]]:
        """`encoder_hidden_states`, with short rows padded by zeros, and a mask over samples that hides the padding."""
        frames = [clip.shape[1] for clip in hidden]
        longest = max(frames)
        stride = moonshine.SAMPLES_PER_FRAME
        if len(hidden) == 1:
            return {"encoder_hidden_states": hidden[0], "encoder_attention_mask": self._all(longest * stride)}
        padded = [np.pad(clip, ((0, 0), (0, longest - clip.shape[1]), (0, 0))) for clip in hidden]
        mask = np.arange(longest * stride) < np.array(frames)[:, None] * stride
        return {"encoder_hidden_states": np.concatenate(padded), "encoder_attention_mask": mask.astype(np.int64)}

    def longest(self, samples: int, prompt: int, said: tuple[str, int] | None = None) -> int:
        """The smaller of the family's cap and the number of free positions in the decoder."""
        cap = moonshine.Moonshine().length_cap(samples, said is not None and moonshine.is_spelled(*said))
        return min(cap, self._positions - prompt)

    def _all(self, samples: int) -> NDArray[np.int64]:
        """A mask (1, samples) that hides nothing. A new one takes 0.5 ms for 25 s, so the longest so far is kept."""
        if self._ones.shape[1] < samples:
            self._ones = np.ones((1, samples), np.int64)
        return self._ones[:, :samples]
