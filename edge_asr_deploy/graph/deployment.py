"""One set of weights, several targets: each distinct graph is written once, all of a component over one data file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_asr_deploy.bundle.manifest import Graphs, Layer
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.graph.build import MERGED, decoder_graph, encoder_graph, require_all
from edge_asr_deploy.graph.onnx_tools.files import SharedData, save
from edge_asr_deploy.graph.onnx_tools.trace import ENCODER, trace
from edge_asr_deploy.quantized.weight import Activation, QuantizedWeight
from edge_asr_deploy.recipe.document import Recipe
from edge_asr_deploy.runtime.targets import TARGETS, Target

Half = Callable[[Path, Any, Recipe, Sequence[QuantizedWeight]], tuple[Any, list[Layer]]]


@dataclass(frozen=True)
class Deployment:
    """Graphs, the targets that run them, and the weights as they do: with the `activation` of the targets' form."""

    targets: tuple[str, ...]
    graphs: Graphs
    weights: tuple[QuantizedWeight, ...]
    layers: tuple[Layer, ...]
    recipe: Recipe
    """With what the targets have otherwise than the recipe that was asked for."""


def deploy(
    model: Any, recipe: Recipe, weights: Sequence[QuantizedWeight], folder: Path, said: Callable[[str], None]
) -> list[Deployment]:
    """Write the graphs of `model` for all targets of `recipe` into `folder`.

    As `build`, which this does for one target. The first target's graphs have Optimum's names, the others' carry the
    name of the first target that needs them. UserError where a weight does not fit a target's form.
    """
    formed = {name: in_form(weights, recipe, TARGETS[name]) for name in recipe.target}
    recipes = {name: recipe.with_attention(TARGETS[name].attention) for name in recipe.target}
    with tempfile.TemporaryDirectory() as scratch:
        said("tracing the float graph with Optimum")
        trace(model, Path(scratch))

        def write(half: Half, standard: str, is_encoder: bool) -> dict[str, tuple[str, list[Layer]]]:
            """By target the file of its half of the model, and what is stored in it how."""
            halves = {
                name: [weight for weight in some if weight.name.startswith("model.encoder.") == is_encoder]
                for name, some in formed.items()
            }
            attention = {name: recipes[name].encoder.attention if is_encoder else None for name in formed}
            files = _files(standard, {name: (_key(some), attention[name]) for name, some in halves.items()})
            data = SharedData(folder / f"{standard}_data") if len(set(files.values())) > 1 else None
            written: dict[str, list[Layer]] = {}
            for name, file in files.items():
                if file not in written:
                    said(f"writing {file}")
                    graph, written[file] = half(Path(scratch), model.config, recipes[name], halves[name])
                    save(graph, folder / file, data)
            return {name: (file, written[file]) for name, file in files.items()}

        encoders = write(encoder_graph, ENCODER, True)
        decoders = write(decoder_graph, MERGED, False)
    found: dict[Graphs, Deployment] = {}
    for name, some in formed.items():
        (encoder, heard), (decoder, spoken) = encoders[name], decoders[name]
        graphs, layers = Graphs(encoder=encoder, decoder=decoder), (*heard, *spoken)
        require_all(some, layers)
        same = found.get(graphs)
        targets = (*(same.targets if same else ()), name)
        found[graphs] = Deployment(targets, graphs, tuple(some), layers, recipes[name])
    return list(found.values())


def in_form(weights: Sequence[QuantizedWeight], recipe: Recipe, target: Target) -> list[QuantizedWeight]:
    """The weights with the `activation` that a target's form gives them.

    The target says what multiplies int8; how the inputs are rounded then, and which layers are left out, is the
    recipe's `activations`, else `int8-dynamic`.
    """
    return [_in_form(weight, recipe, target) for weight in weights]


def _in_form(weight: QuantizedWeight, recipe: Recipe, target: Target) -> QuantizedWeight:
    activations = recipe.activations(weight.component)
    if (weight.activation is not None) != activations.covers(weight.name):
        remedy = f"its activations are not those the recipe gives {weight.component}; report this"
        raise UserError("export", weight.name, remedy)
    if not multiplies_int8(recipe, target, weight.component, weight.name):
        return replace(weight, activation=None)
    return weight if weight.activation is not None else replace(weight, activation=Activation("int8-dynamic"))


def multiplies_int8(recipe: Recipe, target: Target, component: str, path: str) -> bool:
    """True where a target's form, or where that leaves it open the recipe, lets a matrix multiply integers."""
    form, activations = target.forms[component], recipe.activations(component)
    return form != "low-bit" and (activations.covers(path) or (form == "int8" and activations.kind == "float"))


def _key(weights: Sequence[QuantizedWeight]) -> Hashable:
    """What a graph over given weights depends on."""
    return frozenset((weight.name, weight.activation) for weight in weights)


def _files(standard: str, keys: Mapping[str, Hashable]) -> dict[str, str]:
    """By target the file of its graph; targets with the same key share one."""
    named: dict[Hashable, str] = {}
    for target, key in keys.items():
        named.setdefault(key, standard if not named else f"{standard.removesuffix('.onnx')}_{target}.onnx")
    return {target: named[key] for target, key in keys.items()}
