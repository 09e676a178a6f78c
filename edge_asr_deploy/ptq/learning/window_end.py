"""The end of Whisper's short windows, learned: the float model's answers for full windows are the teacher.

Whisper's encoder takes 30 s, however long the clip is, and keeps something about the whole clip in the last frames of
its window. A shorter window therefore needs such an end, too. The positions of its last frames are free, because
nothing is said there. They are chosen so that the decoder's distributions come out as those of the full window:

    min over end of  sum over cuts, tokens of  KL( p(token | full window) || p(token | clip, silence, end) )

by Adam (arXiv 1412.6980) with a rate that falls by a cosine. No label is read: the text is the model's own. A few
thousand numbers are learned, so that minutes on pieces of the calibration speech are enough. Some pieces are joined by
a pause: an end that was learned without them took a pause between two sentences for the end of the clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.families import Family
from edge_asr_deploy.families.whisper import FRAMES_PER_SECOND, TAIL_SECONDS
from edge_asr_deploy.progress import Progress, silent
from edge_asr_deploy.ptq.calibration.samples import Sample, encode, together
from edge_asr_deploy.ptq.learning.pieces import MOST, cuts, divergence, encode_window, log_probabilities
from edge_asr_deploy.quantized.model import WindowEnd
from edge_asr_deploy.recipe.components import LearnedEnd
from edge_asr_deploy.runtime.options import AUTO_MARGIN

# Of so many cuts one is kept aside: it says whether the learned end is better than the window's own.
ASIDE = 8
RATE = 0.015


@dataclass(frozen=True)
class Cut:
    """A piece of calibration speech: its sample, and what the full window says, log-probabilities (tokens, words)."""

    samples: int
    sample: Sample
    expected: Tensor


def learn_window_end(
    model: Any,
    kind: Family,
    folder: Path,
    utterances: Sequence[Utterance],
    wanted: LearnedEnd,
    language: str | None = None,
    progress: Progress = silent,
) -> WindowEnd | None:
    """The learned end of a float Whisper's short windows. None where the window's own end is nearer to the full window.

    `folder` is the checkpoint's, `language` that of all utterances, None where each has its own.
    """
    pieces = cuts(utterances, wanted.cuts)
    made: list[Cut] = []
    size = together(model, kind)
    for start in range(0, len(pieces), size):
        made += _taught(model, kind, folder, pieces[start : start + size], language)
        progress("teacher", min(start + size, len(pieces)), len(pieces))
    aside, taught = made[::ASIDE], [cut for index, cut in enumerate(made) if index % ASIDE]
    window = _Window(model)
    end = window.learn(taught or aside, wanted, progress)
    with torch.no_grad():
        learned = window.mean_divergence(aside, end, wanted.margin)
        own = window.mean_divergence(aside, window.last(TAIL_SECONDS * FRAMES_PER_SECOND), AUTO_MARGIN)
    return WindowEnd(end.numpy().astype(np.float16).astype(np.float32), wanted.margin) if learned < own else None


def _taught(
    model: Any,
    kind: Family,
    folder: Path,
    pieces: Sequence[tuple[NDArray[np.float32], str | None]],
    language: str | None,
) -> list[Cut]:
    from transformers import AutoFeatureExtractor

    extractor = AutoFeatureExtractor.from_pretrained(folder)
    clips = {str(index): samples for index, (samples, _) in enumerate(pieces)}
    languages = [language or own for _, own in pieces]
    most = int(MOST * model.config.max_target_positions)
    samples = encode(model, kind, extractor, clips, languages, most=most)
    made = []
    with torch.no_grad():
        for clip, sample in zip(clips.values(), samples, strict=True):
            answer = model(input_features=sample.inputs, decoder_input_ids=sample.tokens, use_cache=False)
            # Half the bytes: a hundred cuts of 25 tokens are 500 MB in float32.
            made.append(Cut(len(clip), sample, answer.logits[0].log_softmax(-1).half()))
    return made


class _Window:
    """A Whisper whose short windows end with given positions."""

    def __init__(self, model: Any) -> None:
        self.model, self.encoder = model, model.get_encoder()
        self.positions: Tensor = self.encoder.embed_positions.weight.detach()

    def last(self, frames: int) -> Tensor:
        """The window's own last positions (frames, channels)."""
        return self.positions[-frames:].clone()

    def learn(self, made: Sequence[Cut], wanted: LearnedEnd, progress: Progress) -> Tensor:
        """The learned positions (frames, channels)."""
        end = self.last(wanted.frames).requires_grad_()
        adam = torch.optim.Adam([end], RATE)
        rates = torch.optim.lr_scheduler.CosineAnnealingLR(adam, wanted.steps)
        random, order = Random(0), list[Cut]()
        for step in range(wanted.steps):
            if not order:
                order = random.sample(made, len(made))
            # Not `backward`: it would also find the gradients of all weights.
            [end.grad] = torch.autograd.grad(self.divergence(order.pop(), end, wanted.margin), [end])
            adam.step()
            rates.step()
            progress("learning", step + 1, wanted.steps)
        return end.detach()

    def mean_divergence(self, made: Sequence[Cut], end: Tensor, margin: float) -> float:
        """The mean of `divergence` over cuts."""
        return float(torch.stack([self.divergence(cut, end, margin) for cut in made]).mean())

    def divergence(self, cut: Cut, end: Tensor, margin: float) -> Tensor:
        """KL in nats per token between the full window's answers and those of a short window with this end."""
        hidden = encode_window(self.encoder, cut.sample.inputs, cut.samples, end, margin)
        return divergence(cut.expected.float(), log_probabilities(self.model, cut.sample.tokens, hidden))
