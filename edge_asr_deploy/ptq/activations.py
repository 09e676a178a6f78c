"""Activations in 8 bits: which layers have them, on what ranges, and what they do to a model in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import Structure
from edge_asr_deploy.progress import Progress, silent
from edge_asr_deploy.ptq.calibration.ranges import Observed, extremes
from edge_asr_deploy.ptq.calibration.samples import Sample
from edge_asr_deploy.quantized.inputs import TOP, Dynamic, InputRounding, PerRow, Static, affine, per_row
from edge_asr_deploy.quantized.weight import QuantizedWeight
from edge_asr_deploy.recipe.document import Recipe
from edge_asr_deploy.recipe.rules import check_skips


def quantize_activations(
    model: Any,
    structure: Structure,
    recipe: Recipe,
    weights: Sequence[QuantizedWeight],
    samples: Sequence[Sample] = (),
    progress: Progress = silent,
) -> list[QuantizedWeight]:
    """The weights with the rounding of their `inputs` that the recipe gives each layer.

    Fixed ranges are measured on the calibration samples through `model`, which holds the quantized weights and whose
    activations are float. Layers that share an input share its range. UserError without samples.
    """
    check_skips(recipe, structure)
    covered = {
        w.name: recipe.activations(w.component) for w in weights if recipe.activations(w.component).covers(w.name)
    }
    fixed = {name for name, spec in covered.items() if spec.kind == "int8-static"}
    if fixed and not samples:
        raise UserError("calibration", "no clips", "int8-static takes its ranges from speech; give a corpus with clips")
    lowest = {path: step.lowest for step in structure.steps() for path in step.paths}
    chosen: dict[str, InputRounding] = {
        name: per_row(lowest[name]) if spec.by_token(name) else Dynamic() for name, spec in covered.items()
    }
    if fixed:
        kept = {w.name: columns.index for w in weights if (columns := w.float_columns) is not None}
        for paths, observed in observe(model, structure, fixed, samples, progress, kept).items():
            for path in fixed.intersection(paths):
                chosen[path] = affine(*extremes(observed, covered[path]))
    return [replace(w, inputs=chosen.get(w.name)) for w in weights]


def observe(
    model: Any,
    structure: Structure,
    paths: set[str],
    samples: Sequence[Sample],
    progress: Progress = silent,
    kept: Mapping[str, NDArray[np.int64]] | None = None,
) -> dict[tuple[str, ...], Observed]:
    """What the layers at `paths` read while `model` hears the samples, by the paths of the layers that share an input.

    Padding counts, unlike in the statistics for weights: the device computes it too, frames that are heard attend to
    it, and clipping it costs them more than wider ranges do (figures: docs/reference/methods.md). `kept`: by path the
    channels that stay float, which are left out.
    """
    found: dict[tuple[str, ...], Observed] = {}
    with ExitStack() as stack:
        for step in structure.steps():
            if not paths.intersection(step.paths):
                continue
            observed = found[step.paths] = Observed()
            apart = (kept or {}).get(step.paths[0])

            def take(values: Tensor, observed: Observed = observed, apart: NDArray[np.int64] | None = apart) -> Tensor:
                observed.add(values if apart is None else values.index_fill(-1, torch.from_numpy(apart), 0))
                return values

            stack.enter_context(on_input(model.get_submodule(step.paths[0]), take))
        for done, sample in enumerate(samples, 1):
            with torch.no_grad():
                model(sample.inputs, decoder_input_ids=sample.tokens, use_cache=False)
            progress("ranges of activations", done, len(samples))
    return found


@contextmanager
def fake_activations(model: Any, weights: Sequence[QuantizedWeight]) -> Iterator[None]:
    """Within it every layer that rounds its inputs computes on rounded ones, as the exported graph does."""
    with ExitStack() as stack:
        for weight in weights:
            if weight.inputs is not None:
                # The tied table multiplies as the head; as the embedding it is looked up.
                is_head = weight.component == "embedding"
                module = model.get_output_embeddings() if is_head else model.get_submodule(weight.name)
                stack.enter_context(on_input(module, partial(rounded_input, weight=weight)))
        yield


def rounded_input(values: Tensor, weight: QuantizedWeight) -> Tensor:
    """What the layer of `weight` computes on: `values` rounded, those of its float columns as they are.

    These count as zero for the range of the others, which keeps outlier channels from widening it.
    """
    assert weight.inputs is not None
    columns = weight.float_columns
    if columns is None:
        return rounded(values, weight.inputs)
    kept = torch.from_numpy(columns.index)
    others = values.index_fill(-1, kept, 0)
    return rounded(others, weight.inputs).index_copy(-1, kept, values[..., kept])


def rounded(values: Tensor, rounding: InputRounding) -> Tensor:
    """The values nearest to `values` (..., channels) on the grid that the rounding says, float32.

    A `Dynamic` one is that of ONNX's DynamicQuantizeLinear: over the extremes of the whole tensor, and zero.
    """
    match rounding:
        case Static(fixed_scale, zero_point):
            scale, zero = torch.tensor(fixed_scale), torch.tensor(float(zero_point))
        case PerRow(zero_point, floor):
            magnitudes = values.abs() if rounding.is_centered else values
            largest = magnitudes.amax(-1, keepdim=True).clamp(min=float(floor))
            zero = torch.tensor(float(zero_point))
            scale = largest * float(np.float32(1 / (TOP - zero_point)))
        case Dynamic():
            low, high = values.min().clamp(max=0), values.max().clamp(min=0)
            scale = (high - low) / TOP
            scale = torch.where(scale == 0, torch.ones_like(scale), scale)
            zero = (-low / scale).round().clamp(0, TOP)
    codes = (values / scale).round_().add_(zero).clamp_(0, TOP)
    return codes.sub_(zero).mul_(scale)


@contextmanager
def on_input(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within it the module reads `change(input)` instead of its input."""
    handle = module.register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))
    try:
        yield
    finally:
        handle.remove()
