"""Small models exported without the pipeline: their weights, their graphs, the layers these store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_asr_deploy.bundle.manifest import Layer
from edge_asr_deploy.families import family
from edge_asr_deploy.graph.deployment import deploy
from edge_asr_deploy.progress import silent
from edge_asr_deploy.proof.verify import Agreement, measure_agreement
from edge_asr_deploy.ptq.calibration.samples import Sample
from edge_asr_deploy.ptq.forms import quantized_model, quantized_models
from edge_asr_deploy.quantized.model import QuantizedModel
from edge_asr_deploy.quantized.weight import QuantizedWeight
from edge_asr_deploy.recipe.document import Recipe


def quantized(model: Any, recipe: Recipe, weights: Sequence[QuantizedWeight]) -> QuantizedModel:
    """The whole decision for a model of which `weights` are codes, on any CPU."""
    components = family(recipe.family).structure(model.config).components()
    return quantized_model(weights, recipe, components)


def build(model: Any, recipe: Recipe, weights: Sequence[QuantizedWeight], folder: Path) -> list[Layer]:
    """Write the graphs of the recipe's first target into `folder`; what is stored how."""
    components = family(recipe.family).structure(model.config).components()
    return list(deploy(model, quantized_models(weights, recipe, components), folder, silent)[0].layers)


def agreement_of(
    model: Any,
    folder: Path,
    samples: Sequence[Sample],
    weights: Sequence[QuantizedWeight] = (),
    recipe: Recipe | None = None,
    shortlist: int = 0,
) -> Agreement:
    """How far the graphs in `folder` are from `model`; without a recipe only layers round what they read."""
    if recipe is not None:
        return measure_agreement(model, folder, samples, quantized(model, recipe, weights))
    plain = QuantizedModel(model.config.model_type, tuple(weights), {}, 16, 16, {}, shortlist=shortlist)
    return measure_agreement(model, folder, samples, plain)
