"""Activations in 8 bits: which layers round them, on which ranges, and how a PyTorch model computes with them."""

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
    lowest = {path: shared.lowest for shared in structure.shared_inputs() for path in shared.paths}
    chosen: dict[str, InputRounding] = {
        name: per_row(lowest[name]) if spec.by_token(name) else Dynamic() for name, spec in covered.items()
    }
    if fixed:
        float_columns = {w.name: w.float_columns.index for w in weights if w.float_columns is not None}
        for paths, observed in observe(model, structure, fixed, samples, progress, float_columns).items():
            for path in fixed.intersection(paths):
                chosen[path] = affine(*extremes(observed, covered[path]))
    return [replace(w, inputs=chosen.get(w.name)) for w in weights]


def observe(
    model: Any,
    structure: Structure,
    paths: set[str],
    samples: Sequence[Sample],
    progress: Progress = silent,
    float_columns: Mapping[str, NDArray[np.int64]] | None = None,
) -> dict[tuple[str, ...], Observed]:
    """The values that the layers at `paths` read on these samples, by the paths of the layers that share an input.

    Padding counts, unlike in the statistics for weights: the device computes it too, frames of speech attend to it, and
    clipping it costs more than wider ranges do (figures: docs/reference/methods.md). `float_columns`: by path the
    channels that are not rounded, and therefore not observed.
    """
    observed_by_paths: dict[tuple[str, ...], Observed] = {}
    with ExitStack() as stack:
        for shared in structure.shared_inputs():
            if not paths.intersection(shared.paths):
                continue
            observed = Observed()
            observed_by_paths[shared.paths] = observed
            columns = (float_columns or {}).get(shared.paths[0])

            def take(
                values: Tensor, observed: Observed = observed, columns: NDArray[np.int64] | None = columns
            ) -> Tensor:
                observed.add(values if columns is None else values.index_fill(-1, torch.from_numpy(columns), 0))
                return values

            stack.enter_context(on_input(model.get_submodule(shared.paths[0]), take))
        for done, sample in enumerate(samples, 1):
            with torch.no_grad():
                model(sample.inputs, decoder_input_ids=sample.tokens, use_cache=False)
            progress("ranges of activations", done, len(samples))
    return observed_by_paths


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
    """The input that the layer of `weight` computes on: `values` rounded, except in its float columns.

    Float columns count as zero for the range of the other columns, so that outlier channels do not widen it.
    """
    assert weight.inputs is not None
    columns = weight.float_columns
    if columns is None:
        return rounded(values, weight.inputs)
    float_columns = torch.from_numpy(columns.index)
    others = values.index_fill(-1, float_columns, 0)
    return rounded(others, weight.inputs).index_copy(-1, float_columns, values[..., float_columns])


def rounded(values: Tensor, rounding: InputRounding) -> Tensor:
    """`values` (..., channels) rounded to the nearest values of the rounding's grid, float32.

    The grid of `Dynamic` is that of ONNX's DynamicQuantizeLinear: it spans zero and the extremes of the whole tensor.
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
