"""The driver: quantizes a model in place, block by block in data-flow order, and returns the integer codes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import Block, Family, Step, Structure
from edge_asr_deploy.ptq.calibration import Progress, Sample, silent
from edge_asr_deploy.ptq.methods import needs_statistics, round_weight
from edge_asr_deploy.ptq.statistics import Statistics, output_error
from edge_asr_deploy.ptq.stream import Stream, statistics
from edge_asr_deploy.ptq.weight import QuantizedWeight
from edge_asr_deploy.recipe import COMPONENTS, Recipe, WeightSpec


def needs_samples(recipe: Recipe) -> bool:
    """True when some component is rounded by a method that looks at calibration speech."""
    return any(needs_statistics(recipe.component(name)) for name in COMPONENTS)


def quantize(
    model: Any, family: Family, recipe: Recipe, samples: Sequence[Sample] = (), progress: Progress = silent
) -> list[QuantizedWeight]:
    """Quantize `model` (a Transformers model for conditional generation, float32, in eval mode) by the recipe.

    Afterwards the model computes with exactly the dequantized values of the returned weights (fake quantization), and
    its head is still tied to its embedding. Components of 16 or 32 bits stay as they are. Every layer is calibrated on
    activations that have passed through the quantized layers before it: the encoder first, then the cross-attention's
    keys and values on the quantized encoder's output, the decoder, and last the tied table as vocabulary head.
    `samples` may be empty when `needs_samples(recipe)` is False. UserError for broken weights or missing samples.
    """
    structure = family.structure(model.config)
    if model.get_submodule(structure.head).weight is not model.get_submodule(structure.table).weight:
        raise UserError("checkpoint", family.name, "its vocabulary head is not tied to its embedding; not supported")
    if needs_samples(recipe) and not samples:
        raise UserError("calibration", "no clips", "this recipe's methods look at speech; give a corpus with clips")
    driver = _Driver(model, structure, recipe, progress)
    with torch.no_grad():
        if needs_samples(recipe):
            driver.calibrated(samples)
        else:
            driver.uncalibrated()
    return driver.done


class _Driver:
    """One run over one model; `done` grows in the order of quantization."""

    def __init__(self, model: Any, structure: Structure, recipe: Recipe, progress: Progress) -> None:
        self.model, self.structure, self.recipe, self.progress = model, structure, recipe, progress
        self.total = sum(recipe.component(c).is_integer for c in structure.components().values())
        self.done: list[QuantizedWeight] = []

    def uncalibrated(self) -> None:
        for step in (*self.structure.steps(), self.table):
            self.round(step, None)

    def calibrated(self, samples: Sequence[Sample]) -> None:
        heard, weights = self.encoder(samples)
        self.round(self.structure.cross, self.found(self.structure.cross, heard, weights))
        self.decoder(samples, heard)

    def encoder(self, samples: Sequence[Sample]) -> tuple[list[Tensor], list[Tensor]]:
        """Quantize the encoder's blocks. Its new outputs (1, frames, channels) and the frames' weights (frames,)."""
        encoder, norm = self.model.get_encoder(), self.module(self.structure.encoder_norm)
        runs = [lambda s=sample: encoder(s.inputs) for sample in samples]  # type: ignore[misc]
        stream = Stream.enter(self.module(self.structure.encoder[0].path), runs, [s.frames for s in samples])
        self.blocks(self.structure.encoder, stream)
        return [norm(hidden) for hidden in stream.hidden], stream.weights

    def decoder(self, samples: Sequence[Sample], heard: Sequence[Tensor]) -> None:
        """Quantize the decoder's blocks on the teacher-forced tokens, and the table on what reaches the head."""
        decoder, norm = self.model.get_decoder(), self.module(self.structure.decoder_norm)
        runs = [
            lambda s=sample, h=hidden: decoder(s.tokens, encoder_hidden_states=h, use_cache=False)  # type: ignore[misc]
            for sample, hidden in zip(samples, heard, strict=True)
        ]
        stream = Stream.enter(self.module(self.structure.decoder[0].path), runs, [s.tokens.shape[1] for s in samples])
        self.blocks(self.structure.decoder, stream)
        outputs = [norm(hidden) for hidden in stream.hidden]
        self.round(self.table, self.found(self.table, outputs, stream.weights))

    def blocks(self, blocks: Sequence[Block], stream: Stream) -> None:
        """Quantize each block's steps on what the stream brings, then let the stream pass through the result."""
        for block in blocks:
            module = self.module(block.path)
            for step in block.steps:
                if not needs_statistics(self.recipe.component(step.component)):
                    self.round(step, None)
                    continue
                linear = self.module(step.paths[0])
                inputs: Iterable[Tensor] = stream.inputs(module, linear)
                if step.closes:
                    inputs = list(inputs)
                self.round(step, statistics(inputs, stream.weights, linear.in_features))
                if step.closes:
                    stream.replay(self.module(step.closes), [linear(values) for values in inputs])
            stream.advance(module)

    def found(self, step: Step, inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> Statistics | None:
        """Statistics of known inputs, if the step's method reads any."""
        needed = needs_statistics(self.recipe.component(step.component))
        return statistics(inputs, weights, inputs[0].shape[-1]) if needed else None

    def round(self, step: Step, found: Statistics | None) -> None:
        """Round the weights of layers that share an input, and write the rounded values into the model."""
        spec = self.recipe.component(step.component)
        if not spec.is_integer:
            return
        weights = {path: self.module(path).weight.data for path in step.paths}
        for quantized in round_together(weights, step.component, spec, found):
            weights[quantized.name].copy_(torch.from_numpy(quantized.dequantize()))
            self.done.append(quantized)
            self.progress(len(self.done), self.total, quantized.name)

    @property
    def table(self) -> Step:
        return Step((self.structure.table,), "embedding", self.structure.decoder_norm)

    def module(self, path: str) -> Any:
        return self.model.get_submodule(path)


def round_together(
    weights: dict[str, Tensor], component: str, spec: WeightSpec, found: Statistics | None
) -> list[QuantizedWeight]:
    """Round matrices (out, in) that read the same input: stacked, so that one factorization serves them all."""
    hessian = None if found is None else found.hessian
    grid, codes = round_weight(torch.cat(list(weights.values())), spec, hessian, " / ".join(weights))
    values = grid.decode(codes)
    result, start = [], 0
    for name, weight in weights.items():
        rows = slice(start, start + len(weight))
        start += len(weight)
        result.append(
            QuantizedWeight(
                name=name,
                component=component,
                method=spec.quantizer.method,
                bits=spec.bits,
                group=spec.group_size,
                symmetric=spec.symmetric,
                codes=codes[rows].numpy(),
                scales=grid.scales[rows].to(torch.float16).numpy(),
                zero_points=grid.zero_points[rows].to(torch.uint8).numpy(),
                error=output_error(weight, values[rows], hessian),
            )
        )
    return result
