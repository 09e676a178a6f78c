"""Bytes at any width, known beforehand: within 0.5 % of what an export then writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optimum.exporters.onnx")

from edge_asr_deploy.families import family
from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.graph.storing.sizes import stored_bytes
from edge_asr_deploy.harness.evaluation.size import size_of
from edge_asr_deploy.ptq.quantize import quantize
from edge_asr_deploy.recipe.document import Recipe, parse
from edge_asr_deploy.recipe.weights import WeightSpec
from tests.support import tiny
from tests.support.graphs import build


def recipe(name: str, layers: dict[str, Any], storage: str = "plain") -> Recipe:
    weights = {"weights": {"bits": 4, "granularity": "group:16", "storage": storage}}
    return parse({"name": "test", "family": name, **dict.fromkeys(COMPONENTS, weights), "layers": layers}, "test")


def written_and_known(name: str, chosen: Recipe, folder: Path) -> tuple[int, int]:
    """Bytes of the exported files, and the part of them that `stored_bytes` answers for."""
    folder.mkdir()
    model = tiny.MODELS[name]()
    components = family(name).structure(model.config).components()
    known = sum(
        stored_bytes(path, components[path], tuple(model.get_submodule(path).weight.shape), spec)
        for path, spec in chosen.specs(components).items()
    )
    build(model, chosen, quantize(model, family(name), chosen), folder)
    return size_of(folder).onnx, known


@pytest.mark.parametrize("name", tiny.MODELS)
def test_the_rest_of_the_files_is_the_same_whatever_the_widths(name: str, tmp_path: Path) -> None:
    """In such small models the operators that unpack a matrix weigh more than its codes: they must be counted."""
    mixed = {"*": {"bits": 3}, "*.fc2": {"bits": 8}, "*.k_proj": {"bits": 6, "symmetric": True}, "*.fc1": {"bits": 7}}
    mixed |= {"*.embed_tokens": {"bits": 5}, "*.q_proj": {"bits": 2, "granularity": "channel"}}
    first, then = (written_and_known(name, recipe(name, layers), tmp_path / str(len(layers))) for layers in ({}, mixed))
    predicted = first[0] - first[1] + then[1]
    assert abs(predicted - then[0]) < 0.005 * then[0]
    assert abs(first[0] - then[0]) > 0.02 * then[0], "the widths make a difference here"


def test_multipliers_are_counted(tmp_path: Path) -> None:
    plain = written_and_known("whisper", recipe("whisper", {}), tmp_path / "plain")
    two_level = written_and_known("whisper", recipe("whisper", {}, "two-level"), tmp_path / "two-level")
    assert abs(plain[0] - plain[1] + two_level[1] - two_level[0]) < 0.005 * two_level[0]


def test_a_matrix_that_stays_float_is_no_integer_codes() -> None:
    with pytest.raises(ValueError, match="16 bits"):
        stored_bytes("model.encoder.layers.0.fc1", "encoder", (32, 32), WeightSpec(bits=16))
