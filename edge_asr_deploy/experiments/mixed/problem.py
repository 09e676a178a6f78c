"""Which widths cost what: the choice that `fit` makes, with the exact bytes of every matrix at every width."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from edge_asr_deploy.experiments.mixed.knapsack import Table, tabulate
from edge_asr_deploy.families import Family
from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.graph.deployment import deploy
from edge_asr_deploy.graph.storing.sizes import stored_bytes
from edge_asr_deploy.harness.evaluation.size import size_of
from edge_asr_deploy.progress import Progress
from edge_asr_deploy.ptq.activations import quantize_activations
from edge_asr_deploy.ptq.calibration.samples import Sample
from edge_asr_deploy.ptq.forms import multiplies_int8, quantized_models
from edge_asr_deploy.ptq.quantize import quantize
from edge_asr_deploy.recipe.document import Recipe
from edge_asr_deploy.recipe.methods import RtnOptions
from edge_asr_deploy.recipe.weights import LayerSpec, WeightSpec
from edge_asr_deploy.runtime.targets import TARGETS

Bits = dict[str, int]


@dataclass(frozen=True)
class Sizes:
    """Bytes of all `*.onnx` files: of each matrix by path and width, and of everything else together."""

    matrices: Mapping[str, Mapping[int, int]]
    rest: int

    def total(self, bits: Mapping[str, int]) -> int:
        """Bytes of the files with these widths."""
        return self.rest + sum(self.matrices[path][width] for path, width in bits.items())

    @property
    def smallest(self) -> int:
        """Bytes with every matrix at its smallest."""
        return self.rest + sum(min(sizes.values()) for sizes in self.matrices.values())


@dataclass(frozen=True)
class Problem:
    """Costs (KL, nats per token, taken to add up) and sizes by path and width."""

    costs: Mapping[str, Mapping[int, float]]
    sizes: Sizes

    def solve(self, budget: int) -> Bits:
        """The widths of the least summed cost within `budget` bytes. ValueError below `sizes.smallest`."""
        chosen = self._table.choose(budget - self.sizes.rest)
        return {path: list(self.costs[path])[index] for path, index in zip(self.costs, chosen, strict=True)}

    def cost(self, bits: Mapping[str, int]) -> float:
        """The summed cost of these widths."""
        return sum(self.costs[path][width] for path, width in bits.items())

    def front(self, points: int) -> list[Bits]:
        """The best widths at budgets spread evenly by ratio from the smallest size to the largest, each once."""
        low, high = self.sizes.smallest, self.sizes.rest + self._table.largest
        front: list[Bits] = []
        for number in range(points):
            bits = self.solve(round(low * (high / low) ** (number / max(points - 1, 1))))
            if not front or bits != front[-1]:
                front.append(bits)
        return front

    @cached_property
    def _table(self) -> Table:
        costs = [list(widths.values()) for widths in self.costs.values()]
        sizes = [[self.sizes.matrices[path][width] for width in widths] for path, widths in self.costs.items()]
        return tabulate(costs, sizes)


def matrix_sizes(
    model: Any, recipe: Recipe, components: Mapping[str, str], choices: Sequence[int]
) -> dict[str, dict[int, int]]:
    """Bytes in the exported files of every matrix that the recipe makes integer codes of, at every width."""
    return {
        path: {bits: _bytes(model, recipe, path, components[path], spec.at(bits)) for bits in choices}
        for path, spec in recipe.specs(components).items()
        if spec.is_integer
    }


def _bytes(model: Any, recipe: Recipe, path: str, component: str, spec: WeightSpec) -> int:
    shape = tuple(model.get_submodule(path).weight.shape)
    return stored_bytes(
        path, component, shape, spec, multiplies_int8(recipe, TARGETS[recipe.target[0]], component, path)
    )


def measure_rest(model: Any, family: Family, recipe: Recipe, samples: Sequence[Sample], progress: Progress) -> int:
    """Bytes of the exported files without the integer matrices: from one export, rounded to nearest, of a copy.

    One of the `samples` gives fixed ranges of activations, where there are any: all take the same bytes.
    """
    plain = rounded_to_nearest(recipe)
    copy = deepcopy(model)
    structure = family.structure(copy.config)
    components = structure.components()
    with tempfile.TemporaryDirectory() as scratch:
        weights = quantize_activations(copy, structure, plain, quantize(copy, family, plain), samples[:1])
        deploy(copy, quantized_models(weights, plain, components), Path(scratch), progress)
        whole = size_of(Path(scratch)).onnx
    specs = {path: spec for path, spec in plain.specs(components).items() if spec.is_integer}
    return whole - sum(_bytes(model, plain, path, components[path], spec) for path, spec in specs.items())


def with_bits(recipe: Recipe, components: Mapping[str, str], bits: Mapping[str, int], name: str) -> Recipe:
    """The recipe with these widths: the commonest of a component as its own, the others as `layers`."""
    specs: dict[str, WeightSpec] = {}
    for component in COMPONENTS:
        widths = [width for path, width in bits.items() if components[path] == component]
        if widths:
            spec = recipe.component(component)
            # At 8 bits there are no two levels: the component's own width must leave the others theirs.
            several = [width for width in widths if spec.at(width).storage == spec.storage] or widths
            specs[component] = spec.at(max(sorted(set(several)), key=several.count))
    result = recipe.with_weights(specs)
    single = {
        path: LayerSpec(bits=width)
        for path, width in bits.items()
        if result.weights(path, components[path]).bits != width
    }
    return result.model_copy(update={"name": name, "layers": {**recipe.layers, **single}})


def rounded_to_nearest(recipe: Recipe) -> Recipe:
    """The same recipe without what needs calibration speech: every matrix plainly rounded."""
    plain = {"quantizer": RtnOptions(), "steps": ()}
    specs = {c: recipe.component(c).model_copy(update=plain) for c in COMPONENTS}
    layers = {pattern: layer.model_copy(update={"quantizer": None}) for pattern, layer in recipe.layers.items()}
    return recipe.with_weights(specs).model_copy(update={"layers": layers})
