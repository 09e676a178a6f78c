"""The driver: quantizes a model in place, block by block in data-flow order, and returns the integer codes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import Block, Family, Step, Structure
from edge_asr_deploy.options import AwqOptions
from edge_asr_deploy.ptq import folding
from edge_asr_deploy.ptq.calibration import Progress, Sample, silent
from edge_asr_deploy.ptq.methods import needs_statistics, qep, round_weight
from edge_asr_deploy.ptq.statistics import Statistics, output_error
from edge_asr_deploy.ptq.stream import Stream, compare, statistics
from edge_asr_deploy.ptq.twin import Twin
from edge_asr_deploy.ptq.two_level import multipliers
from edge_asr_deploy.ptq.weight import QuantizedWeight
from edge_asr_deploy.recipe import COMPONENTS, Recipe, WeightSpec


def needs_samples(recipe: Recipe) -> bool:
    """True when something is made from calibration speech: rounded weights, or ranges of activations."""
    return _is_calibrated(recipe) or any(recipe.activations(name).kind == "int8-static" for name in COMPONENTS)


def _is_calibrated(recipe: Recipe) -> bool:
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
    Where a recipe scales input channels, the layers that feed them, norms included, change too, by exact identities.
    `samples` may be empty when `needs_samples(recipe)` is False. UserError for broken weights or missing samples.
    """
    structure = family.structure(model.config)
    if model.get_submodule(structure.head).weight is not model.get_submodule(structure.table).weight:
        raise UserError("checkpoint", family.name, "its vocabulary head is not tied to its embedding; not supported")
    if needs_samples(recipe) and not samples:
        raise UserError("calibration", "no clips", "this recipe looks at speech; give a corpus with clips")
    driver = _Driver(model, structure, recipe, progress)
    with torch.no_grad():
        if _is_calibrated(recipe):
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
        self.floats: dict[str, Tensor] = {}

    def uncalibrated(self) -> None:
        for step in (*self.structure.steps(), self.table):
            self.round(step)

    def calibrated(self, samples: Sequence[Sample]) -> None:
        heard, weights, originals = self.encoder(samples)
        self.cross(samples, heard, weights, originals)
        self.decoder(samples, heard, originals)

    def encoder(self, samples: Sequence[Sample]) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None]:
        """Quantize the encoder's blocks. Its new outputs (1, frames, channels), the frames' weights (frames,), and the
        float model's outputs where something reads them."""
        encoder, norm = self.model.get_encoder(), self.module(self.structure.encoder_norm)
        runs = [lambda s=sample: encoder(s.inputs) for sample in samples]  # type: ignore[misc]
        stream = Stream.enter(self.module(self.structure.encoder[0].path), runs, [s.frames for s in samples])
        corrects = any(self.recipe.component(c).correction for c in ("encoder", "cross_attention", "decoder"))
        twin = Twin(stream.copy()) if corrects else None
        self.blocks(self.structure.encoder, stream, twin)
        originals = [norm(hidden) for hidden in twin.stream.hidden] if twin else None
        return [norm(hidden) for hidden in stream.hidden], stream.weights, originals

    def cross(
        self,
        samples: Sequence[Sample],
        heard: list[Tensor],
        weights: Sequence[Tensor],
        originals: list[Tensor] | None,
    ) -> None:
        """Quantize the cross-attention's keys and values; scales folded into the encoder's norm change `heard`."""
        step = self.structure.cross
        spec = self.recipe.component(step.component)
        self.fold_values(samples, heard)
        if spec.scaling is not None:
            found = statistics(heard, weights, heard[0].shape[-1])
            scales = folding.scale(self.model, step, found, spec)
            for outputs in (heard, originals or []):
                outputs[:] = [values / scales for values in outputs]
        self.floats = {path: self.module(path).weight.detach().clone() for path in step.paths} if originals else {}
        self.round(step, *self.found(step, heard, weights, originals))

    def fold_values(self, samples: Sequence[Sample], heard: Sequence[Tensor]) -> None:
        """Scale what the cross-attentions' output projections read, while the value projections are not yet rounded.

        Values that are stored in float16 stay: scaled ones would no longer be float16 numbers.
        """
        values = self.recipe.component(self.structure.cross.component)
        if not isinstance(self.recipe.component("decoder").scaling, AwqOptions) or values.bits == 16:
            return
        stream = self.enter_decoder(samples, heard)
        for block in self.structure.decoder:
            self.scale(block, stream, [s for s in block.steps if s.source in self.structure.cross.paths])
            stream.advance(self.module(block.path))

    def decoder(self, samples: Sequence[Sample], heard: Sequence[Tensor], originals: Sequence[Tensor] | None) -> None:
        """Quantize the decoder's blocks on the teacher-forced tokens, and the table on what reaches the head."""
        norm = self.module(self.structure.decoder_norm)
        stream = self.enter_decoder(samples, heard)
        corrects = self.recipe.component("decoder").correction is not None
        twin = Twin(self.enter_decoder(samples, originals)) if originals is not None and corrects else None
        self.blocks(self.structure.decoder, stream, twin)
        outputs = [norm(hidden) for hidden in stream.hidden]
        self.round(self.table, *self.found(self.table, outputs, stream.weights))

    def enter_decoder(self, samples: Sequence[Sample], heard: Sequence[Tensor]) -> Stream:
        decoder = self.model.get_decoder()
        runs = [
            lambda s=sample, h=hidden: decoder(s.tokens, encoder_hidden_states=h, use_cache=False)  # type: ignore[misc]
            for sample, hidden in zip(samples, heard, strict=True)
        ]
        return Stream.enter(self.module(self.structure.decoder[0].path), runs, [s.tokens.shape[1] for s in samples])

    def blocks(self, blocks: Sequence[Block], stream: Stream, twin: Twin | None) -> None:
        """Quantize each block's steps on what the stream brings, then let the stream pass through the result.

        The twin, if there is one, passes through the same blocks unrounded.
        """
        for block in blocks:
            module = self.module(block.path)
            self.scale(block, stream, [s for s in block.steps if s.source not in self.structure.cross.paths])
            if twin:
                twin.enter(block.path, module, self.floats)
            for step in block.steps:
                if not needs_statistics(self.recipe.component(step.component)):
                    self.round(step)
                    continue
                linear = self.module(step.paths[0])
                inputs: Iterable[Tensor] = stream.inputs(module, linear)
                originals: Iterable[Tensor] | None = twin.inputs(step.paths[0]) if twin else None
                if step.closes:
                    inputs, originals = list(inputs), None if originals is None else list(originals)
                self.round(step, *self.found(step, inputs, stream.weights, originals))
                if step.closes:
                    stream.replay(self.module(step.closes), [linear(values) for values in inputs])
                    if twin and originals is not None:
                        twin.replay(step.closes, step.paths[0], list(originals))
            stream.advance(module)
            if twin:
                twin.advance()

    def scale(self, block: Block, stream: Stream, wanted: Sequence[Step]) -> None:
        """Scale the input channels of the wanted steps by the recipe, before anything of the block is rounded."""
        wanted = [s for s in wanted if folding.is_scaled(self.model, s, self.recipe.component(s.component))]
        if not wanted:
            return
        module = self.module(block.path)
        for step in block.steps:
            if step not in wanted and not step.closes:
                continue
            linear = self.module(step.paths[0])
            inputs: Iterable[Tensor] = stream.inputs(module, linear)
            if step.closes:
                inputs = list(inputs)
                stream.replay(self.module(step.closes), [linear(values) for values in inputs])
            if step in wanted:
                found = statistics(inputs, stream.weights, linear.in_features)
                folding.scale(self.model, step, found, self.recipe.component(step.component))
        stream.forget()

    def found(
        self,
        step: Step,
        inputs: Iterable[Tensor],
        weights: Sequence[Tensor],
        originals: Iterable[Tensor] | None = None,
    ) -> tuple[Statistics | None, Tensor | None]:
        """Statistics of the step's inputs and their drift, if its methods read any."""
        spec = self.recipe.component(step.component)
        channels = self.module(step.paths[0]).weight.shape[1]
        if not needs_statistics(spec):
            return None, None
        if spec.correction is None or originals is None:
            return statistics(inputs, weights, channels), None
        return compare(inputs, originals, weights, channels)

    def round(self, step: Step, found: Statistics | None = None, drift: Tensor | None = None) -> None:
        """Round the weights of layers that share an input, and write the rounded values into the model."""
        spec = self.recipe.component(step.component)
        if not spec.is_integer:
            return
        weights = {path: self.module(path).weight.data for path in step.paths}
        if spec.correction is not None and found is not None and drift is not None:
            for weight in weights.values():
                weight.copy_(qep(weight, found.hessian, drift, spec.correction))
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
                method=spec.method,
                bits=spec.bits,
                group=spec.group_size,
                symmetric=spec.symmetric,
                codes=codes[rows].numpy(),
                scales=(grid.scales if grid.base is None else grid.base)[rows].to(torch.float16).numpy(),
                zero_points=grid.zero_points[rows].to(torch.uint8).numpy(),
                error=output_error(weight, values[rows], hessian),
                multipliers=None if grid.base is None else multipliers(grid)[rows].numpy(),
            )
        )
    return result
