"""Bundles of small random models, to be arranged for other engines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundles import pack
from tests.support.tiny import MODELS
from tests.support.vocabulary import GENERATION

TWO_LEVEL = {"storage": "two-level", "granularity": "group:16"}
WIDTHS: dict[str, dict[str, Any]] = {
    "encoder": {"bits": 4, **TWO_LEVEL},
    "cross_attention": {"bits": 4, **TWO_LEVEL},
    "decoder": {"bits": 3, **TWO_LEVEL, "symmetric": True},
    "embedding": {"bits": 5, **TWO_LEVEL},
}
# Float; low-bit kernels, weights inside the graphs; int8 kernels throughout, weights in data files.
FORMS = {"float": (), "low-bit": ("generic",), "int8": ("pi4", "generic")}
# Tokens that are never said, and never said first, as checkpoints name them.
NEVER, NEVER_FIRST = [5, 6, 299], [7, 2]


@dataclass(frozen=True)
class Bundle:
    """A bundle of a small random model, and which one."""

    family: str
    form: str
    folder: Path


def make(family_name: str, form: str, folder: Path) -> Bundle:
    """A bundle as an export writes it, for one of `FORMS`."""
    pytest.importorskip("torch")
    pytest.importorskip("optimum.exporters.onnx")
    from edge_asr_deploy.families import family
    from edge_asr_deploy.graph.deployment import deploy
    from edge_asr_deploy.progress import silent
    from edge_asr_deploy.ptq.forms import quantized_models
    from edge_asr_deploy.ptq.quantize import quantize
    from edge_asr_deploy.recipe.document import float_recipe, parse

    model = MODELS[family_name]()
    if form == "float":
        recipe = float_recipe(family_name)
    else:
        document: dict[str, Any] = {component: {"weights": spec} for component, spec in WIDTHS.items()}
        document["embedding"]["shortlist"] = 64
        recipe = parse(
            {"name": f"{family_name}-test", "family": family_name, "target": list(FORMS[form]), **document}, "test"
        )
    weights = quantize(model, family(family_name), recipe, []) if form != "float" else []
    for key, value in GENERATION[family_name].items():
        setattr(model.generation_config, key, value)
    if family_name == "whisper":
        model.generation_config.suppress_tokens, model.generation_config.begin_suppress_tokens = NEVER, NEVER_FIRST
        model.generation_config.alignment_heads = [[1, 0], [0, 2], [1, 3]]

    def graphs(target: Path) -> dict[str, Any]:
        components = family(family_name).structure(model.config).components()
        deployments = deploy(model, quantized_models(weights, recipe, components), target, silent)
        return {"targets": {name: one.graphs for one in deployments for name in one.targets}}

    return Bundle(family_name, form, pack(folder, "tiny", model, recipe, graphs))


@pytest.fixture(scope="session", params=[(name, form) for name in MODELS for form in FORMS], ids="-".join)
def small_bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    name, form = request.param
    return make(name, form, tmp_path_factory.mktemp(f"{name}-{form}") / "bundle")
