"""A quantized model learns from the float model, end to end and without labels.

Scales, norms and biases move until it says of pieces of the calibration speech what the float model says:

    min over scales, norms, biases of  mean over pieces of
        KL( p_float(token) || p_quantized(token) ), mean over tokens,  +  |E_quantized - E|^2 / |E - mean E|^2

where E is the encoder's output. Codes and the tied table stay (as in the second stage of EfficientQAT,
"E2E-QP", arXiv 2407.11062). Codes that learn, too, say the pieces better and other speech worse
(docs/log/experiments.md). Clips are kept aside, and the state is kept in which their divergence was least.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import embedding, linear

from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.families import Family
from edge_asr_deploy.families.whisper import FRAMES_PER_SECOND, TAIL_SECONDS
from edge_asr_deploy.progress import Progress, silent
from edge_asr_deploy.ptq.calibration.conditions import harder
from edge_asr_deploy.ptq.calibration.samples import Sample, encode, together
from edge_asr_deploy.ptq.calibration.stream import computing
from edge_asr_deploy.ptq.holding import CodedEmbedding, CodedLinear
from edge_asr_deploy.ptq.learning.pieces import MOST, cuts, divergence, encode_window, log_probabilities
from edge_asr_deploy.ptq.learning.scaled import ScaledMatrix
from edge_asr_deploy.quantized.weight import QuantizedWeight
from edge_asr_deploy.recipe.components import Distillation
from edge_asr_deploy.runtime.options import AUTO_MARGIN

# Of so many clips one is kept aside; its pieces say when to stop.
ASIDE = 8
# How often they are asked.
CHECKS = 8
# Share of the pieces in hard conditions, and pieces of a step.
HARD, TOGETHER = 0.3, 6
# Steps until the rate is the whole rate.
WARM = 20


@dataclass(frozen=True)
class Lesson:
    """A piece of speech: what the model hears, how many samples are real, and the float encoder's output (half)."""

    sample: Sample
    samples: int
    encoded: Tensor


def distill(
    model: Any,
    teacher: Any,
    kind: Family,
    folder: Path,
    weights: Sequence[QuantizedWeight],
    utterances: Sequence[Utterance],
    wanted: Distillation,
    language: str | None = None,
    progress: Progress = silent,
) -> list[QuantizedWeight]:
    """The weights with learned scales; those of `model` are changed with them, and its norms and biases.

    `teacher` is the float model, `folder` its checkpoint's, `language` that of all utterances, None where each has its
    own. Where no state is better on clips that were kept aside, everything stays as it was.
    """
    aside = utterances[::ASIDE]
    taught = [one for index, one in enumerate(utterances) if index % ASIDE] or aside
    school = _School(teacher, kind, folder, language)
    judged = school.lessons(aside, max(1, wanted.pieces // ASIDE), progress, 0, wanted.pieces)
    lessons = school.lessons(taught, wanted.pieces - len(judged), progress, len(judged), wanted.pieces)
    learner = _Learner(model, school, weights)
    with learner.at_work():
        learner.learn(lessons or judged, judged, wanted, progress)
    return learner.written(weights)


class _School:
    """The float model, and what it says."""

    def __init__(self, teacher: Any, kind: Family, folder: Path, language: str | None) -> None:
        self.model, self.kind, self.folder, self.language = teacher, kind, folder, language

    def lessons(
        self, utterances: Sequence[Utterance], number: int, progress: Progress, done: int, total: int
    ) -> list[Lesson]:
        """`number` pieces of these utterances, some in hard conditions, with the float model's own texts."""
        from transformers import AutoFeatureExtractor

        extractor = AutoFeatureExtractor.from_pretrained(self.folder)
        pieces = cuts(utterances, number)
        readers = [partial(_samples, piece) for piece, _ in pieces]
        size = together(self.model, self.kind)
        most = int(MOST * self.model.config.max_target_positions) if self.kind.fixed_window else None
        made: list[Lesson] = []
        for start in range(0, number, size):
            batch = range(start, min(start + size, number))
            clips = {str(index): harder(readers, index, HARD, 0) for index in batch}
            languages = [self.language or pieces[index][1] for index in batch]
            samples = encode(self.model, self.kind, extractor, clips, languages, most=most)
            for clip, sample in zip(clips.values(), samples, strict=True):
                with torch.no_grad():
                    encoded = encoder_output(self.model, self.kind, sample.inputs, len(clip))
                frames = 2 * encoded.shape[1] if self.kind.fixed_window else sample.inputs.shape[-1]
                kept = replace(sample, inputs=sample.inputs[..., :frames].clone())
                made.append(Lesson(kept, len(clip), encoded.half()))
            progress("float model", done + len(made), total)
        return made

    def says(self, lesson: Lesson) -> Tensor:
        """The float model's log-probabilities of the lesson's tokens (tokens, words)."""
        with torch.no_grad():
            return log_probabilities(self.model, lesson.sample.tokens, lesson.encoded.float())


class _Learner:
    """A quantized model whose scales, norms and biases learn."""

    def __init__(self, model: Any, school: _School, weights: Sequence[QuantizedWeight]) -> None:
        self.model, self.school = model, school
        self.scaled = {one.name: ScaledMatrix(one) for one in weights if one.component != "embedding"}
        self.matrices = {path: one.matrix().requires_grad_() for path, one in self.scaled.items()}
        self.small = [
            parameter
            for module in model.modules()
            if isinstance(module, nn.LayerNorm | nn.Linear)
            for name, parameter in module.named_parameters(recurse=False)
            if isinstance(module, nn.LayerNorm) or name == "bias"
        ]
        changes = [change for one in self.scaled.values() for change in one.changes]
        self.learning = [*changes, *self.small]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within it the model's layers compute with `matrices`, and what holds codes makes its floats only once."""
        tables: dict[int, Tensor] = {}
        with ExitStack() as stack:
            for path, module in self.model.named_modules():
                if path in self.scaled:
                    stack.enter_context(computing(module, partial(self._linear, path, module)))
                elif isinstance(module, CodedLinear | CodedEmbedding):
                    if (key := id(module.coded)) not in tables:
                        tables[key] = module.weight
                    looks_up = isinstance(module, CodedEmbedding)
                    forward = partial(embedding if looks_up else linear, weight=tables[key])
                    stack.enter_context(computing(module, forward))
            yield

    def _linear(self, path: str, module: nn.Linear, values: Tensor) -> Tensor:
        return linear(values, self.matrices[path], module.bias)

    def learn(
        self, lessons: Sequence[Lesson], judged: Sequence[Lesson], wanted: Distillation, progress: Progress
    ) -> None:
        """Take `wanted.steps` steps, and go back to the best state of those that the judged lessons were asked in."""
        adam = torch.optim.Adam(self.learning, wanted.rate, betas=(0.9, 0.99))
        rates = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: _rate(step, wanted.steps))
        random, order = Random(0), list[Lesson]()
        best, state = self.mean_divergence(judged), self._state()
        for step in range(wanted.steps):
            batch = []
            for _ in range(TOGETHER):
                if not order:
                    order = random.sample(lessons, len(lessons))
                batch.append(order.pop())
            self._find_gradients(batch)
            adam.step()
            rates.step()
            self._compute_matrices()
            if (step + 1) % max(1, wanted.steps // CHECKS) == 0 or step + 1 == wanted.steps:
                now = self.mean_divergence(judged)
                if now < best:
                    best, state = now, self._state()
            progress("learning", step + 1, wanted.steps)
        with torch.no_grad():
            for one, kept in zip(self.learning, state, strict=True):
                one.copy_(kept)
        self._compute_matrices()

    def mean_divergence(self, lessons: Sequence[Lesson]) -> float:
        """The mean of KL in nats per token over lessons."""
        with torch.no_grad():
            return float(torch.stack([self._distances(lesson)[0] for lesson in lessons]).mean())

    def _distances(self, lesson: Lesson) -> tuple[Tensor, Tensor]:
        """KL in nats per token, and the relative squared error of the encoder's output."""
        encoded = encoder_output(self.model, self.school.kind, lesson.sample.inputs, lesson.samples)
        said = log_probabilities(self.model, lesson.sample.tokens, encoded)
        expected = lesson.encoded.float()
        error = (encoded - expected).square().sum() / (expected - expected.mean(1, keepdim=True)).square().sum()
        return divergence(self.school.says(lesson), said), error

    def _find_gradients(self, batch: Sequence[Lesson]) -> None:
        """The gradients of the mean over the batch. Those of matrices are summed first: scales need them only once."""
        learned = [*self.matrices.values(), *self.small]
        sums = [torch.zeros_like(one) for one in learned]
        for lesson in batch:
            spoken, encoded = self._distances(lesson)
            gradients = torch.autograd.grad(spoken + encoded, learned, allow_unused=True)
            for total, gradient in zip(sums, gradients, strict=True):
                if gradient is not None:
                    total.add_(gradient, alpha=1 / len(batch))
        matrices, small = sums[: len(self.matrices)], sums[len(self.matrices) :]
        found = [g for one, total in zip(self.scaled.values(), matrices, strict=True) for g in one.gradients(total)]
        for one, gradient in zip(self.learning, (*found, *small), strict=True):
            one.grad = gradient

    def _compute_matrices(self) -> None:
        with torch.no_grad():
            for path, one in self.scaled.items():
                self.matrices[path].copy_(one.matrix())

    def _state(self) -> list[Tensor]:
        return [one.detach().clone() for one in self.learning]

    def written(self, weights: Sequence[QuantizedWeight]) -> list[QuantizedWeight]:
        """All weights, with what was learned, which the model computes with from now on."""
        made = []
        for weight in weights:
            if weight.name in self.scaled:
                weight = self.scaled[weight.name].learned()
                module = self.model.get_submodule(weight.name)
                if isinstance(module, CodedLinear):
                    module.coded = weight
                else:
                    module.weight.data.copy_(torch.from_numpy(weight.dequantize()))
            made.append(weight)
        for one in self.small:
            one.grad = None
        return made


def encoder_output(model: Any, kind: Family, inputs: Tensor, samples: int) -> Tensor:
    """The encoder's output (1, frames, channels) for a clip of so many samples, in a window as deployed."""
    encoder = model.get_encoder()
    if kind.fixed_window:
        end = encoder.embed_positions.weight.detach()[-TAIL_SECONDS * FRAMES_PER_SECOND :]
        return encode_window(encoder, inputs, samples, end, AUTO_MARGIN)
    output: Tensor = encoder(inputs).last_hidden_state
    return output


def _rate(step: int, steps: int) -> float:
    """The rate's part of the whole rate: it rises for `WARM` steps and falls by a cosine."""
    return min(1.0, (step + 1) / WARM) * (1 + float(np.cos(np.pi * step / steps))) / 2


def _samples(piece: NDArray[np.float32]) -> NDArray[np.float32]:
    return piece
