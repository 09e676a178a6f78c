"""The bytes that `fit` counts with, and the recipe that it writes, on the shipped recipes: integers in two levels."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import pytest

pytest.importorskip("optimum.exporters.onnx")

from edge_asr_deploy.experiments.mixed.problem import Sizes, matrix_sizes, measure_rest, rounded_to_nearest, with_bits
from edge_asr_deploy.families import family
from edge_asr_deploy.graph.deployment import deploy
from edge_asr_deploy.harness.evaluation.size import size_of
from edge_asr_deploy.progress import silent
from edge_asr_deploy.ptq.activations import quantize_activations
from edge_asr_deploy.ptq.forms import quantized_models
from edge_asr_deploy.ptq.quantize import quantize
from edge_asr_deploy.ptq.stem import narrow_in_place
from edge_asr_deploy.recipe.document import parse
from edge_asr_deploy.recipe.files import for_bits
from tests.support import tiny

CHOICES = (3, 4, 7, 8)


@pytest.mark.parametrize("name", tiny.MODELS)
@pytest.mark.parametrize("bits", [4, 3])
def test_the_recipe_has_the_widths_and_the_bytes_that_were_counted(name: str, bits: int, tmp_path: Path) -> None:
    """At 8 bits a matrix in two levels has one scale for each channel; its neighbours keep their two levels."""
    recipe, kind, model = rounded_to_nearest(parse(for_bits(name, bits), "test")), family(name), tiny.MODELS[name]()
    structure = kind.structure(model.config)
    components = structure.components()
    narrow_in_place(model, components, recipe)
    sizes = Sizes(
        matrix_sizes(model, recipe, components, CHOICES),
        measure_rest(model, kind, recipe, [], silent),
    )
    # Most of each component at 8 bits.
    widths = dict(zip(components, cycle((8, 8, 4, 8, 3, 7)), strict=False))

    chosen = with_bits(recipe, components, widths, "chosen")
    specs = chosen.specs(components)
    assert {path: spec.bits for path, spec in specs.items()} == widths
    for path, spec in specs.items():
        assert spec == recipe.component(components[path]).at(widths[path]), path
    weights = quantize_activations(model, structure, chosen, quantize(model, kind, chosen))
    deploy(model, quantized_models(weights, chosen, structure.components()), tmp_path, silent)
    written = size_of(tmp_path).onnx
    assert abs(sizes.total(widths) - written) < 0.005 * written
