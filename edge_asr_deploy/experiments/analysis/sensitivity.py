"""What rounding one matrix alone does to the model's answers: the divergence of its logits from the float model's."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from edge_asr_deploy.experiments.analysis.measurements import Measurements
from edge_asr_deploy.families import Structure
from edge_asr_deploy.progress import Progress, silent
from edge_asr_deploy.ptq.calibration.samples import Sample
from edge_asr_deploy.ptq.calibration.stream import Stream
from edge_asr_deploy.ptq.grid import fit
from edge_asr_deploy.recipe.weights import WeightSpec

# Rounding to nearest stands for every method here, on ranges that are searched as the methods search theirs.
CLIP_STEPS = 10
# Above so many bits the divergence is proportional to the squared rounding error, and too small to measure well.
MEASURED_BITS = 4
# Most of a fixed window is padding: of its frames, so many behind the last real one are enough to measure with.
PADDING = 100


class Probe:
    """The float model's activations before each block, so that a changed matrix costs only what lies behind it.

    `samples` are teacher-forced with the float model's own transcript; of its tokens the first `prompt` ones predict
    no text and do not count. `cuts` drops most padding of encoder windows of fixed length: for the float model and the
    changed one alike.
    """

    def __init__(self, model: Any, structure: Structure, samples: Sequence[Sample], prompt: int, cuts: bool) -> None:
        self.model, self.structure, self.samples, self.prompt = model, structure, samples, prompt
        self.cuts = cuts
        with torch.no_grad():
            self.encoder, hidden_states = self._through(structure.encoder, self._enter_encoder())
            norm = self._module(structure.encoder_norm)
            self.encoder_outputs = [norm(hidden) for hidden in hidden_states]
            self.decoder, hidden_states = self._through(structure.decoder, self._enter_decoder(self.encoder_outputs))
            self.reference = [self._log_probabilities(hidden) for hidden in hidden_states]

    @torch.no_grad()
    def divergence(self, path: str) -> float:
        """KL(float || as the model is now), nats per token, when only the matrix at `path` is another than before."""
        return _mean_divergence(self.reference, self._answers(path))

    def _answers(self, path: str) -> Iterator[Tensor]:
        """Log-probabilities of each sample; the layers before the one at `path` are not computed again."""
        for number, stream in enumerate(self.encoder):
            if path.startswith(f"{self.structure.encoder[number].path}."):
                outputs = self._run(self.structure.encoder[number:], stream.copy())
                norm = self._module(self.structure.encoder_norm)
                return self._decode(0, self._enter_decoder([norm(hidden) for hidden in outputs]))
        for number, stream in enumerate(self.decoder):
            if path.startswith(f"{self.structure.decoder[number].path}."):
                return self._decode(number, stream.copy())
        return self._decode(0, self._enter_decoder(self.encoder_outputs))

    def _decode(self, start: int, stream: Stream) -> Iterator[Tensor]:
        outputs = self._run(self.structure.decoder[start:], stream)
        return (self._log_probabilities(hidden) for hidden in outputs)

    def _through(self, blocks: Sequence[Any], stream: Stream) -> tuple[list[Stream], list[Tensor]]:
        """What enters each block, and what leaves the last."""
        entering = []
        for block in blocks:
            entering.append(stream.copy())
            stream.pass_through(self._module(block.path))
        return entering, stream.hidden

    def _run(self, blocks: Sequence[Any], stream: Stream) -> list[Tensor]:
        for block in blocks:
            stream.pass_through(self._module(block.path))
        return stream.hidden

    def _enter_encoder(self) -> Stream:
        encoder, frames = self.model.get_encoder(), [sample.frames for sample in self.samples]
        runs = [lambda s=sample: encoder(s.inputs) for sample in self.samples]  # type: ignore[misc]
        stream = Stream.enter(self._module(self.structure.encoder[0].path), runs, frames)
        if self.cuts:
            stream.hidden = [h[:, : n + PADDING] for h, n in zip(stream.hidden, frames, strict=True)]
        return stream

    def _enter_decoder(self, encoder_outputs: Sequence[Tensor]) -> Stream:
        decoder = self.model.get_decoder()
        runs = [
            lambda s=sample, h=hidden: decoder(s.tokens, encoder_hidden_states=h, use_cache=False)  # type: ignore[misc]
            for sample, hidden in zip(self.samples, encoder_outputs, strict=True)
        ]
        lengths = [sample.tokens.shape[1] for sample in self.samples]
        return Stream.enter(self._module(self.structure.decoder[0].path), runs, lengths)

    def _log_probabilities(self, hidden: Tensor) -> Tensor:
        values = self._module(self.structure.decoder_norm)(hidden[0, self.prompt :])
        return torch.log_softmax(self._module(self.structure.head)(values), -1)

    def _module(self, path: str) -> Any:
        return self.model.get_submodule(path)


def sensitivities(
    probe: Probe,
    specs: Mapping[str, WeightSpec],
    choices: Sequence[int],
    measurements: Measurements,
    progress: Progress = silent,
) -> dict[str, dict[int, float]]:
    """KL in nats per token by path and width: each matrix of `specs` alone, rounded to nearest in that many bits.

    Granularity and symmetry are the spec's. Widths up to 4 bits are measured, and stored in `measurements` at
    once. Wider ones are extrapolated from the two widest measured, as the divergence is quadratic in a small error.
    """
    measured = measured_widths(choices)
    divergences: dict[str, dict[int, float]] = {}
    for number, (path, spec) in enumerate(specs.items()):
        weight = probe.model.get_submodule(path).weight
        figures: dict[int, tuple[float, float]] = {}
        for done, bits in enumerate(sorted(choices), 1):
            changed = spec.at(bits)
            measure = _measure if bits in measured else _error_alone
            figures[bits] = measurements.measured(
                f"{path} {grid_name(changed)}{'' if bits in measured else ' error'}",
                lambda p=path, w=weight, s=changed, m=measure: m(probe, p, w, s),  # type: ignore[misc]
            )
            progress(f"{path}, {bits} bits", number * len(choices) + done, len(specs) * len(choices))
        # The mean of two widths: one alone depends on which way its errors happen to point.
        ratio = statistics.geometric_mean(
            max(figures[bits][0], 1e-30) / max(figures[bits][1], 1e-30) for bits in measured[-2:]
        )
        divergences[path] = {}
        for bits in choices:
            divergence, error = figures[bits]
            divergences[path][bits] = divergence if bits in measured else ratio * error
    return divergences


@torch.no_grad()
def model_divergence(model: Any, probe: Probe) -> float:
    """KL(float || `model`), nats per token: of a model quantized as a whole, on the probe's samples."""
    other = Probe(model, probe.structure, probe.samples, probe.prompt, probe.cuts)
    return _mean_divergence(probe.reference, iter(other.reference))


def measured_widths(choices: Sequence[int]) -> list[int]:
    """Of the widths those that are measured: up to 4 bits, or else the narrowest."""
    return [bits for bits in sorted(choices) if bits <= MEASURED_BITS] or [min(choices)]


def grid_name(spec: WeightSpec) -> str:
    """Everything that a matrix rounded to nearest depends on."""
    return f"{spec.bits} {spec.granularity} {'symmetric' if spec.symmetric else 'asymmetric'}"


def rounded(weight: Tensor, spec: WeightSpec) -> Tensor:
    """A matrix (out, in) rounded to nearest by the spec's grid, whatever its quantizer."""
    grid = fit(weight, spec.bits, spec.group_size, spec.symmetric, CLIP_STEPS)
    return grid.decode(grid.encode(weight))


def digest(samples: Sequence[Sample]) -> str:
    """sha256 of the samples: measurements on other speech are other measurements."""
    result = hashlib.sha256()
    for sample in samples:
        result.update(f"{tuple(sample.inputs.shape)} {sample.frames} {sample.tokens.tolist()}".encode())
        result.update(sample.inputs.numpy().tobytes())
    return result.hexdigest()


def _measure(probe: Probe, path: str, weight: Any, spec: WeightSpec) -> tuple[float, float]:
    """Divergence and squared rounding error of one matrix."""
    values = rounded(weight.detach(), spec)
    error = float((weight.detach() - values).square().sum(dtype=torch.float64))
    with holding(weight, values):
        return probe.divergence(path), error


def _error_alone(probe: Probe, path: str, weight: Any, spec: WeightSpec) -> tuple[None, float]:
    return None, float((weight.detach() - rounded(weight.detach(), spec)).square().sum(dtype=torch.float64))


@contextmanager
def holding(weight: Any, values: Tensor) -> Iterator[None]:
    """Within it the parameter holds other values."""
    before = weight.data
    weight.data = values
    try:
        yield
    finally:
        weight.data = before


def _mean_divergence(reference: Sequence[Tensor], answers: Iterator[Tensor]) -> float:
    total, tokens = 0.0, 0
    for p, q in zip(reference, answers, strict=True):
        total += float((p.exp() * (p - q)).sum(dtype=torch.float64))
        tokens += len(p)
    return max(total / max(tokens, 1), 0.0)
