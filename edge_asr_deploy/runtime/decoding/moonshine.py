"""Moonshine: raw audio of any length, one start token, and a cap on the tokens per second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
from edge_asr_deploy.runtime.decoding.configuration import read_generation, token_set
from edge_asr_deploy.runtime.decoding.family import Rules
from edge_asr_deploy.runtime.decoding.whisper import refuse_choice

# Without the cap Moonshine loops on hard clips; the Open ASR Leaderboard decodes with this one.
TOKENS_PER_SECOND, SPARE_TOKENS = 6.5, 2
# The three convolutions of the encoder (kernels 127, 7, 3; strides 64, 3, 2) give a frame per so many samples, and the
# first from this many on.
STRIDE = 64 * 3 * 2
SHORTEST = 127 + (7 - 1 + (3 - 1) * 3) * 64


class Moonshine:
    """A Moonshine of any size."""

    first_timestamp: int | None = None
    # Its positions are rotary, so there is no fixed window; it was trained on clips of up to about 30 s.
    window_seconds: int = 30

    def __init__(self, bundle: Path) -> None:
        generation = read_generation(bundle)
        self._start: int = generation["decoder_start_token_id"]
        self._positions: int = generation.get("max_position_embeddings", 512)
        nothing = np.zeros(0, np.intp)
        self.rules = Rules(end=token_set(generation["eos_token_id"]), never=nothing, never_first=nothing)

    def prompt(self, language: str | None, task: str | None) -> tuple[int | None, ...]:
        """The start token."""
        refuse_choice(language, task)
        return (self._start,)

    def languages(self) -> dict[int, str]:
        """None: a Moonshine knows one language, without a token for it."""
        return {}

    def inputs(self, samples: NDArray[np.float32], seconds: int | None = None) -> dict[str, NDArray[np.generic]]:
        """`input_values`: float32 (1, n), and masks of the same length for encoder and decoder.

        The decoder downsamples its mask itself, so that one, too, counts samples. It hears all of any length, and
        nothing else: `seconds` does not matter.
        """
        samples = np.pad(samples, (0, max(0, SHORTEST - len(samples))))
        mask = np.ones((1, len(samples)), np.int64)
        return {"input_values": samples[None], "attention_mask": mask, "encoder_attention_mask": mask}

    def join(self, hidden: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[np.generic]]:
        """`encoder_hidden_states`, short rows padded with zeros, and a mask over samples that hides these."""
        frames = [clip.shape[1] for clip in hidden]
        longest = max(frames)
        padded = [np.pad(clip, ((0, 0), (0, longest - clip.shape[1]), (0, 0))) for clip in hidden]
        mask = np.arange(longest * STRIDE) < np.array(frames)[:, None] * STRIDE
        return {"encoder_hidden_states": np.concatenate(padded), "encoder_attention_mask": mask.astype(np.int64)}

    def longest(self, samples: int, prompt: int) -> int:
        """6.5 tokens per second of audio, and two."""
        return min(int(samples * TOKENS_PER_SECOND / SAMPLE_RATE) + SPARE_TOKENS, self._positions - prompt)
