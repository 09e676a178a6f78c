"""What a recipe needs calibration speech for."""

from __future__ import annotations

from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.ptq.methods import needs_statistics
from edge_asr_deploy.recipe.document import Recipe


def needs_samples(recipe: Recipe) -> bool:
    """True when something is made from calibration speech: rounded weights, what is learned,
    ranges of activations."""
    specs = [recipe.component(name) for name in COMPONENTS]
    # Which layers a pattern matches is not known here, so each of them counts for every component.
    specs += [layer.over(spec) for layer in recipe.layers.values() for spec in specs]
    ranges = any(recipe.activations(name).kind == "int8-static" for name in COMPONENTS)
    learns = recipe.encoder.end is not None or recipe.distillation is not None
    return learns or ranges or any(needs_statistics(spec) for spec in specs)
