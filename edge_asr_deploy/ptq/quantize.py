"""Quantizes a model in place and returns the integer codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import Family
from edge_asr_deploy.progress import Progress, silent
from edge_asr_deploy.ptq.calibration.samples import Sample
from edge_asr_deploy.ptq.driver import Driver
from edge_asr_deploy.ptq.methods import needs_statistics
from edge_asr_deploy.ptq.needs import needs_samples
from edge_asr_deploy.ptq.rotation import rotate
from edge_asr_deploy.quantized.weight import QuantizedWeight
from edge_asr_deploy.recipe.document import Recipe


def quantize(
    model: Any,
    family: Family,
    recipe: Recipe,
    samples: Sequence[Sample] = (),
    progress: Progress = silent,
    frees: bool = False,
) -> list[QuantizedWeight]:
    """Quantize `model` (a Transformers model for conditional generation, float32, in eval mode) by the recipe.

    Afterwards the model computes with exactly the dequantized values of the returned weights (fake quantization), and
    its head is still tied to its embedding. With `frees` its layers hold codes instead of matrices as soon as their
    block is done, and make floats of them when they compute (`holding`). Components of 16 or 32 bits stay as they are.
    Every layer is calibrated on activations that have passed through the quantized layers before it: the encoder
    first, then the cross-attention's keys and values on the quantized encoder's output, the decoder, and last the tied
    table as vocabulary head.
    Where a recipe scales input channels, the layers that feed them, norms included, change too, by exact identities.
    `samples` may be empty when `needs_samples(recipe)` is False. UserError for broken weights, missing samples, or
    a key of the recipe's `layers` that matches nothing.
    """
    structure = family.structure(model.config)
    if model.get_submodule(structure.head).weight is not model.get_submodule(structure.table).weight:
        raise UserError("checkpoint", family.name, "its vocabulary head is not tied to its embedding; not supported")
    rotate(model, structure, recipe)
    driver = Driver(model, family, recipe, progress, frees)
    calibrates = any(needs_statistics(spec) for spec in driver.specs.values())
    if needs_samples(recipe) and not samples:
        raise UserError("calibration", "no clips", "this recipe's methods look at speech; give a corpus with clips")
    with torch.no_grad():
        if calibrates:
            driver.calibrated(samples)
        else:
            driver.uncalibrated()
    return driver.done
