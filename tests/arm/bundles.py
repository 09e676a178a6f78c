"""Whole bundles of a small random Whisper: what a board gets, made by the exporting side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_asr_deploy.families import family
from edge_asr_deploy.graph.build import build
from edge_asr_deploy.ptq.activations import quantize_activations
from edge_asr_deploy.ptq.quantize import quantize
from edge_asr_deploy.ptq.stem import narrow_in_place
from edge_asr_deploy.recipe import COMPONENTS, Recipe, float_recipe, parse
from tests import tiny
from tests.runtime.conftest import GENERATION, tokenizer, write_bundle

INT8 = {"weights": {"bits": 8, "granularity": "channel", "symmetric": True}, "activations": "int8-dynamic"}
INT4 = {"weights": {"bits": 4, "granularity": "group:32", "symmetric": True}}


def recipes() -> dict[str, Recipe]:
    """The forms in which a matrix runs on ARM: float, integer kernels, the 4-bit kernel. The table stays float."""
    layers = [component for component in COMPONENTS if component != "embedding"]
    table = {"embedding": {"weights": {"bits": 32, "granularity": "channel"}}}
    header = {"family": "whisper", **table}
    return {
        "float": float_recipe("whisper"),
        "w8a8": parse({"name": "w8a8", **header, **dict.fromkeys(layers, INT8)}, "test"),
        "w4": parse({"name": "w4", **header, **dict.fromkeys(layers, INT4)}, "test"),
    }


def tiny_bundle(recipe: Recipe, folder: Path) -> Path:
    """Quantize, build and pack the small random Whisper of `tests.tiny`."""
    model: Any = tiny.whisper()
    for key, value in GENERATION["whisper"].items():
        setattr(model.generation_config, key, value)
    structure = family("whisper").structure(model.config)
    narrow_in_place(model, structure.components(), recipe)
    weights = quantize(model, family("whisper"), recipe, [])
    weights = quantize_activations(model, structure, recipe, weights, [])
    parts = folder / "parts"
    parts.mkdir(parents=True)
    build(model, recipe, weights, parts, lambda what: None)
    model.config.save_pretrained(parts)
    model.generation_config.save_pretrained(parts)
    tokenizer().save(str(parts / "tokenizer.json"))
    return write_bundle(folder / "bundle", parts, {})
