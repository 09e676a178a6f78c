"""One run of quantization over a model: block by block in data-flow order, on activations that pass through it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import Block, Family, SharedInput
from edge_asr_deploy.families.whisper import FRAMES_PER_SECOND, TAIL_SECONDS
from edge_asr_deploy.progress import Progress
from edge_asr_deploy.ptq import folding
from edge_asr_deploy.ptq.calibration.importance import block_weights, frame_weights
from edge_asr_deploy.ptq.calibration.samples import Sample
from edge_asr_deploy.ptq.calibration.stream import Stream, collect_statistics, compare
from edge_asr_deploy.ptq.calibration.twin import Twin
from edge_asr_deploy.ptq.correction import Corrected, stream_read
from edge_asr_deploy.ptq.holding import hold_codes
from edge_asr_deploy.ptq.learning.blockwise import learn_part, parts
from edge_asr_deploy.ptq.learning.reconstruction import Learned
from edge_asr_deploy.ptq.methods import needs_statistics
from edge_asr_deploy.ptq.methods.quik import spec_of
from edge_asr_deploy.ptq.rare import rare_rows, round_table
from edge_asr_deploy.ptq.rounding import by_spec, round_together
from edge_asr_deploy.ptq.statistics import Drift, Statistics
from edge_asr_deploy.quantized.weight import QuantizedWeight
from edge_asr_deploy.recipe.document import Recipe
from edge_asr_deploy.recipe.methods import Learning
from edge_asr_deploy.recipe.weights import WeightSpec
from edge_asr_deploy.runtime.memory import release_memory
from edge_asr_deploy.runtime.options import AUTO_MARGIN


class Driver:
    """One run over one model; `done` grows in the order of quantization."""

    def __init__(self, model: Any, family: Family, recipe: Recipe, progress: Progress, frees: bool) -> None:
        self.model, self.structure, self.recipe, self.progress = model, family.structure(model.config), recipe, progress
        self.fixed_window, self.frees = family.fixed_window, frees
        self.specs = recipe.specs(self.structure.components())
        self.total = sum(spec.is_integer for spec in self.specs.values())
        self.done: list[QuantizedWeight] = []
        self.floats: dict[str, Tensor] = {}

    def uncalibrated(self) -> None:
        """Quantize all matrices by methods that look at nothing else."""
        for shared in (*self.structure.shared_inputs(), self.table):
            self.round(shared)
            for path in shared.paths:
                self.free(path)

    def calibrated(self, samples: Sequence[Sample]) -> None:
        """Quantize all matrices, each on what the samples are before it."""
        encoder_outputs, weights, originals = self.encoder(samples)
        self.cross(samples, encoder_outputs, weights, originals)
        self.decoder(samples, encoder_outputs, originals)

    def encoder(self, samples: Sequence[Sample]) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None]:
        """Quantize the encoder's blocks, on windows as deployed: most are as short as their clips.

        Returns the quantized encoder's outputs (1, frames, channels), the weights of their frames (frames,), and the
        float model's outputs where a correction reads them.
        """
        encoder, norm = self.model.get_encoder(), self.module(self.structure.encoder_norm)
        runs = [lambda s=sample: encoder(s.inputs) for sample in samples]  # type: ignore[misc]
        stream = Stream.enter(self.module(self.structure.encoder[0].path), runs, [s.frames for s in samples])
        if self.fixed_window:
            stream.shorten(int((AUTO_MARGIN - TAIL_SECONDS) * FRAMES_PER_SECOND), TAIL_SECONDS * FRAMES_PER_SECOND)
        twin = Twin(stream.copy()) if any(spec.correction for spec in self.specs.values()) else None
        self.blocks(self.structure.encoder, stream, twin)
        originals = [norm(hidden) for hidden in twin.stream.hidden] if twin else None
        return [norm(hidden) for hidden in stream.hidden], stream.weights, originals

    def cross(
        self,
        samples: Sequence[Sample],
        encoder_outputs: list[Tensor],
        weights: Sequence[Tensor],
        originals: list[Tensor] | None,
    ) -> None:
        """Quantize the cross-attention's keys and values.

        Scales that are folded into the encoder's norm change `encoder_outputs` in place.
        """
        shared = self.structure.cross
        self.fold_values(samples, encoder_outputs)
        importance = self.recipe.component(shared.component).importance
        if importance is not None:
            stream = self.enter_decoder(samples, encoder_outputs)
            weights = frame_weights(self.model, self.structure, stream, weights, importance)
        if self.is_scaled(shared):
            statistics = collect_statistics(encoder_outputs, weights, encoder_outputs[0].shape[-1])
            scales = folding.scale(self.model, shared, statistics, self.spec(shared))
            for outputs in (encoder_outputs, originals or []):
                outputs[:] = [values / scales for values in outputs]
        if originals:
            names = [f"{path}.{name}" for path in shared.paths for name, _ in self.module(path).named_parameters()]
            self.floats = {name: self.model.get_parameter(name).detach().clone() for name in names}
        self.round(shared, *self.statistics_of(shared, encoder_outputs, weights, originals))

    def fold_values(self, samples: Sequence[Sample], encoder_outputs: Sequence[Tensor]) -> None:
        """Scale the inputs of the cross-attentions' output projections, before the value projections are rounded.

        Value projections stored in float16 are not scaled: their weights would no longer be float16 numbers.
        """
        readers = {
            block.path: [s for s in block.inputs if s.source in self.structure.cross.paths and self.is_scaled(s)]
            for block in self.structure.decoder
        }
        if not any(readers.values()):
            return
        stream = self.enter_decoder(samples, encoder_outputs)
        for block in self.structure.decoder:
            self.scale(block, stream, readers[block.path])
            stream.pass_through(self.module(block.path))

    def decoder(
        self, samples: Sequence[Sample], encoder_outputs: Sequence[Tensor], originals: Sequence[Tensor] | None
    ) -> None:
        """Quantize the decoder's blocks on the teacher-forced tokens, and the table on what reaches the head."""
        norm = self.module(self.structure.decoder_norm)
        stream = self.enter_decoder(samples, encoder_outputs)
        corrects = any(self.spec(shared).correction for block in self.structure.decoder for shared in block.inputs)
        twin = Twin(self.enter_decoder(samples, originals)) if originals is not None and corrects else None
        self.blocks(self.structure.decoder, stream, twin)
        outputs = [norm(hidden) for hidden in stream.hidden]
        self.round(self.table, *self.statistics_of(self.table, outputs, stream.weights))
        self.free(self.structure.table)

    def enter_decoder(self, samples: Sequence[Sample], encoder_outputs: Sequence[Tensor]) -> Stream:
        """What enters the decoder's first block."""
        decoder = self.model.get_decoder()
        runs = [
            lambda s=sample, h=hidden: decoder(s.tokens, encoder_hidden_states=h, use_cache=False)  # type: ignore[misc]
            for sample, hidden in zip(samples, encoder_outputs, strict=True)
        ]
        return Stream.enter(self.module(self.structure.decoder[0].path), runs, [s.tokens.shape[1] for s in samples])

    def blocks(self, blocks: Sequence[Block], stream: Stream, twin: Twin | None) -> None:
        """Quantize each block's layers on the stream's activations, then send the stream through the quantized block.

        The twin, if there is one, passes through the same blocks unrounded.
        """
        real = stream.weights
        for block in blocks:
            module = self.module(block.path)
            importance = self.recipe.component(block.inputs[0].component).importance
            stream.weights = block_weights(self.model, block, stream, real, importance)
            self.scale(block, stream, [s for s in block.inputs if s.source not in self.structure.cross.paths])
            if twin:
                twin.enter(block.path, module, self.floats)
            for shared_inputs in parts(block):
                learned = self.learned(block, shared_inputs, stream)
                for shared in shared_inputs:
                    self.round_shared(block, shared, stream, twin, learned)
            stream.pass_through(module)
            if twin:
                twin.leave()
            self.free(block.path)
        stream.weights = real

    def free(self, path: str) -> None:
        """Hold codes where the layers at this path or below it have been rounded, if floats are to be freed."""
        if not self.frees:
            return
        for weight in self.done:
            if weight.name == path or weight.name.startswith(f"{path}."):
                hold_codes(self.module(weight.name), weight)
                if weight.name == self.structure.table:
                    hold_codes(self.module(self.structure.head), weight)
        release_memory()

    def round_shared(
        self, block: Block, shared: SharedInput, stream: Stream, twin: Twin | None, learned: Learned | None
    ) -> None:
        """Round the layers of one shared input, and replay the attention whose output they compute, if they do."""
        if not self.needs_statistics(shared):
            self.round(shared)
            return
        module, linear = self.module(block.path), self.module(shared.paths[0])
        inputs: Iterable[Tensor] = stream.inputs(module, linear)
        originals: Iterable[Tensor] | None = twin.inputs(shared.paths[0]) if twin else None
        if shared.closes:
            inputs, originals = list(inputs), None if originals is None else list(originals)
        norm = stream_read(block, shared, self.spec(shared).correction)
        residual = twin.ahead(norm, stream.inputs(module, self.module(norm))) if twin and norm else ()
        self.round(shared, *self.statistics_of(shared, inputs, stream.weights, originals, residual), learned)
        if shared.closes:
            stream.replay(self.module(shared.closes), [linear(values) for values in inputs])
            if twin and originals is not None:
                twin.replay(shared.closes, shared.paths[0], list(originals))

    def learned(self, block: Block, shared_inputs: Sequence[SharedInput], stream: Stream) -> Learned | None:
        """The grids and codes of a method that learns on parts of blocks; None for other methods."""
        chosen = dict.fromkeys(self.specs[path] for shared in shared_inputs for path in shared.paths)
        if not any(spec.is_integer and isinstance(spec.quantizer, Learning) for spec in chosen):
            return None
        if len(chosen) > 1:
            remedy = "what learns needs one spec in all of an attention or feed-forward part"
            raise UserError("recipe layers", shared_inputs[0].paths[0], remedy)
        (spec,) = chosen
        return learn_part(self.model, block, shared_inputs, stream, spec, self.structure.cross.paths)

    def scale(self, block: Block, stream: Stream, wanted: Sequence[SharedInput]) -> None:
        """Scale the wanted shared inputs by the recipe, before anything of the block is rounded."""
        wanted = [s for s in wanted if self.is_scaled(s)]
        if not wanted:
            return
        module = self.module(block.path)
        for shared in block.inputs:
            if shared not in wanted and not shared.closes:
                continue
            linear = self.module(shared.paths[0])
            inputs: Iterable[Tensor] = stream.inputs(module, linear)
            if shared.closes:
                inputs = list(inputs)
                stream.replay(self.module(shared.closes), [linear(values) for values in inputs])
            if shared in wanted:
                statistics = collect_statistics(inputs, stream.weights, linear.in_features)
                folding.scale(self.model, shared, statistics, self.spec(shared))
        stream.forget()

    def is_scaled(self, shared: SharedInput) -> bool:
        """True when the recipe scales this input and no layer that the scales change is stored in float16.

        Scaled weights of such a layer would no longer be float16 numbers.
        """
        changed = (*shared.paths, shared.source) if shared.source else shared.paths
        narrow = any(self.specs[path].bits == 16 for path in changed)
        return not narrow and folding.is_scaled(self.model, shared, self.spec(shared))

    def spec(self, shared: SharedInput) -> WeightSpec:
        """The spec by which layers with a shared input are prepared together: the one with the fewest bits.

        Its rounding errors are by far the largest. For the other layers its scales are exact as well.
        """
        return min((self.specs[path] for path in shared.paths), key=lambda spec: spec.bits)

    def needs_statistics(self, shared: SharedInput) -> bool:
        """True when the recipe's method needs the inputs of one of these layers."""
        return any(needs_statistics(self.specs[path]) for path in shared.paths)

    def statistics_of(
        self,
        shared: SharedInput,
        inputs: Iterable[Tensor],
        weights: Sequence[Tensor],
        originals: Iterable[Tensor] | None = None,
        residual: Sequence[Tensor] = (),
    ) -> tuple[Statistics | None, Drift | None]:
        """Statistics of a shared input and its drift from the float model; None where no method reads them."""
        channels = self.module(shared.paths[0]).weight.shape[1]
        if not self.needs_statistics(shared):
            return None, None
        if self.spec(shared).correction is None or originals is None:
            return collect_statistics(inputs, weights, channels), None
        return compare(inputs, originals, weights, channels, residual)

    def round(
        self,
        shared: SharedInput,
        statistics: Statistics | None = None,
        drift: Drift | None = None,
        learned: Learned | None = None,
    ) -> None:
        """Round the weights of layers that share an input, and write the rounded values into the model.

        Layers with the same spec are rounded together; all of them use the same statistics.
        """
        for common, paths in by_spec(shared.paths, self.specs):
            spec = spec_of(paths[0], common)
            if not spec.is_integer:
                continue
            weights = {path: self.module(path).weight.data for path in paths}
            corrected = None
            if spec.correction is not None and statistics is not None and drift is not None:
                corrected = Corrected(weights, statistics, drift, spec.correction)
            rare = rare_rows(self.recipe.embedding.rare, spec, self.model.config)
            if rare is None or (table := self.structure.table) not in paths:
                rounded = round_together(weights, shared.component, spec, statistics, learned)
            else:
                rounded = [round_table(weights[table], table, spec, rare, statistics)]
            for quantized in rounded:
                weights[quantized.name].copy_(torch.from_numpy(quantized.dequantize()))
                self.done.append(quantized)
                self.progress(quantized.name, len(self.done), self.total)
            if corrected is not None:
                corrected.move_biases({path: self.module(path).bias for path in paths})

    @property
    def table(self) -> SharedInput:
        """The tied table, which the decoder's last norm feeds."""
        return SharedInput((self.structure.table,), "embedding", self.structure.decoder_norm)

    def module(self, path: str) -> Any:
        """The model's module of that path."""
        return self.model.get_submodule(path)
