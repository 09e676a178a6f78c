"""Whole bundles of a small random Whisper: what a board gets, made by the exporting side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_asr_deploy.families import family
from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.graph.deployment import deploy
from edge_asr_deploy.progress import silent
from edge_asr_deploy.ptq.activations import quantize_activations
from edge_asr_deploy.ptq.forms import quantized_models
from edge_asr_deploy.ptq.quantize import quantize
from edge_asr_deploy.ptq.stem import narrow_in_place
from edge_asr_deploy.recipe.document import Recipe, float_recipe, parse
from tests.support import tiny
from tests.support.bundles import pack
from tests.support.vocabulary import GENERATION

INT8 = {"weights": {"bits": 8, "granularity": "channel", "symmetric": True}, "activations": "int8-dynamic"}
INT4 = {"weights": {"bits": 4, "granularity": "group:32", "symmetric": True}}
BOTH = {"weights": {"bits": 4, "granularity": "group:16", "storage": "two-level"}}
# Those of the bundle that is for several.
TARGETS = ("pi4", "pi5", "x86")


def recipes() -> dict[str, Recipe]:
    """The forms in which a matrix runs on ARM: float, integer kernels, the 4-bit kernel; and one bundle that has both.

    The table stays float but in that one, where it has 5 bits and a shortlist.
    """
    layers = [component for component in COMPONENTS if component != "embedding"]
    table = {"embedding": {"weights": {"bits": 32, "granularity": "channel"}}}
    wide = {"embedding": {"shortlist": 16, "weights": {**BOTH["weights"], "bits": 5}}}
    header: dict[str, Any] = {"family": "whisper"}
    return {
        "float": float_recipe("whisper"),
        "w8a8": parse({"name": "w8a8", **header, **table, **dict.fromkeys(layers, INT8)}, "test"),
        "w4": parse({"name": "w4", **header, **table, **dict.fromkeys(layers, INT4)}, "test"),
        "targets": parse(
            {"name": "targets", **header, **wide, **dict.fromkeys(layers, BOTH), "target": list(TARGETS)}, "test"
        ),
    }


def tiny_bundle(recipe: Recipe, folder: Path) -> Path:
    """Quantize, build and pack the small random Whisper of `tests.support.tiny`."""
    # Of this seed it says more than one word again and again.
    model: Any = tiny.whisper(seed=1)
    for key, value in GENERATION["whisper"].items():
        setattr(model.generation_config, key, value)
    structure = family("whisper").structure(model.config)
    narrow_in_place(model, structure.components(), recipe)
    weights = quantize(model, family("whisper"), recipe, [])
    weights = quantize_activations(model, structure, recipe, weights, [])

    def graphs(target: Path) -> dict[str, Any]:
        made = deploy(model, quantized_models(weights, recipe, structure.components()), target, silent)
        return {"targets": {name: one.graphs for one in made for name in one.targets}}

    return pack(folder, recipe.name, model, recipe, graphs)
