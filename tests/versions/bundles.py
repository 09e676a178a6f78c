"""The bundles that every release must open: small random models by every shipped recipe, and real checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_asr_deploy.export_options import ExportOptions
from edge_asr_deploy.families import family
from edge_asr_deploy.graph.deployment import deploy
from edge_asr_deploy.pipeline import export
from edge_asr_deploy.progress import silent
from edge_asr_deploy.ptq.forms import quantized_models
from edge_asr_deploy.recipe.document import Recipe
from tests.golden.bundles import quantized, shipped_recipes
from tests.support.bundles import pack
from tests.support.vocabulary import GENERATION

# Model, bits, calibration clips: fewer than the recipe's, to stay quick.
REAL = (("whisper-tiny.en", 4, 8), ("moonshine-tiny", 4, 8))


def random_bundles(folder: Path) -> Iterator[Path]:
    """Bundles of `tests.support.tiny` by recipe, made once."""
    for name, recipe in shipped_recipes().items():
        target = folder / name
        if not target.is_dir():
            _pack(recipe, target)
        yield target


def real_bundles(folder: Path) -> Iterator[Path]:
    """Bundles of real checkpoints, made once. UserError where a checkpoint is not at hand."""
    for model, bits, number in REAL:
        target = folder / f"{model}-w{bits}"
        if not target.is_dir():
            export(ExportOptions(model=model, bits=bits, number=number, output=target))
        yield target


def _pack(recipe: Recipe, target: Path) -> None:
    model, weights = quantized(recipe, exported=True)
    for key, value in GENERATION[recipe.family].items():
        setattr(model.generation_config, key, value)
    components = family(recipe.family).structure(model.config).components()

    def graphs(partial: Path) -> dict[str, Any]:
        made = deploy(model, quantized_models(weights, recipe, components), partial, silent)
        return {"targets": {name: one.graphs for one in made for name in one.targets}}

    pack(target, target.name, model, recipe, graphs)
