"""Pieces of the calibration speech to learn from, and Whisper's encoder for windows that are as short as they are."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import gelu

from edge_asr_deploy.corpora.utterance import SAMPLE_RATE, Utterance
from edge_asr_deploy.families.whisper import FRAMES_PER_SECOND
from edge_asr_deploy.runtime.decoding.audio_context import context_seconds

# Seconds of a piece: two of five are two sentences with a pause between them, one is long, two are commands.
PARTS, PAUSE, LONG, SHORT = (1.0, 7.0), (0.2, 1.2), (8.0, 25.0), (1.5, 8.0)
# A pause is not without any sound, full scale 1.
QUIET = 1e-4
# Texts are cut at this part of the decoder's positions (149 tokens). Longer ones are loops, which teach little.
MOST = 1 / 3


def cuts(utterances: Sequence[Utterance], number: int) -> list[tuple[NDArray[np.float32], str | None]]:
    """`number` pieces of the utterances in turn, each samples (n,) and its language; the same ones every time."""
    random, noise = Random(0), np.random.default_rng(0)

    def part(samples: NDArray[np.float32], seconds: tuple[float, float]) -> NDArray[np.float32]:
        length = min(len(samples), int(random.uniform(*seconds) * SAMPLE_RATE))
        start = random.randint(0, len(samples) - length)
        return samples[start : start + length]

    pieces = []
    for index in range(number):
        utterance = utterances[index % len(utterances)]
        samples = utterance.samples()
        if index % 5 < 2:
            pause = noise.standard_normal(int(random.uniform(*PAUSE) * SAMPLE_RATE), np.float32) * QUIET
            piece = np.concatenate([part(samples, PARTS), pause.astype(np.float32), part(samples, PARTS)])
        else:
            piece = part(samples, LONG if index % 5 == 2 else SHORT)
        pieces.append((piece, utterance.language))
    return pieces


def encode_window(encoder: Any, features: Tensor, samples: int, end: Tensor, margin: float) -> Tensor:
    """Whisper's encoder outputs (1, frames, channels) for a clip of so many samples in a short window.

    As `graph.rewriting.frames` writes it: the window is the clip and `margin` seconds, and its last positions are `end`
    (frames, channels). `features` (1, mels, frames) are those of the full window.
    """
    positions: Tensor = encoder.embed_positions.weight.detach()
    frames = context_seconds(samples, margin, len(positions) // FRAMES_PER_SECOND) * FRAMES_PER_SECOND
    if frames < len(positions):
        positions = torch.cat([positions[: max(frames - len(end), 0)], end[max(len(end) - frames, 0) :]])
    hidden = gelu(encoder.conv2(gelu(encoder.conv1(features[:, :, : 2 * frames])))).transpose(1, 2) + positions
    for layer in encoder.layers:
        hidden = layer(hidden, attention_mask=None, layer_head_mask=None)[0]
    output: Tensor = encoder.layer_norm(hidden)
    return output


def log_probabilities(model: Any, tokens: Tensor, encoded: Tensor) -> Tensor:
    """Of every word of the vocabulary behind each token (tokens, words), for encoder outputs (1, frames, channels)."""
    answer = model.get_decoder()(input_ids=tokens, encoder_hidden_states=encoded, use_cache=False)
    logits: Tensor = model.get_output_embeddings()(answer.last_hidden_state)[0]
    return logits.log_softmax(-1)


def divergence(expected: Tensor, said: Tensor) -> Tensor:
    """KL in nats per token of log-probabilities `expected` from those that were `said`, both (tokens, words)."""
    mean: Tensor = (expected.exp() * (expected - said)).sum(-1).mean()
    return mean
