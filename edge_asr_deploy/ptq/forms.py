"""From weights and a recipe to the whole quantized model as each target runs it: decided here, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import family
from edge_asr_deploy.families.structure import LOWEST, Family, convolutions
from edge_asr_deploy.quantized.inputs import Dynamic, InputRounding, per_row
from edge_asr_deploy.quantized.model import FloatMatrix, Int8Attention, QuantizedModel, WindowEnd
from edge_asr_deploy.quantized.weight import QuantizedWeight
from edge_asr_deploy.recipe.document import Recipe
from edge_asr_deploy.runtime.targets import TARGETS, Target


def quantized_models(
    weights: Sequence[QuantizedWeight],
    recipe: Recipe,
    components: Mapping[str, str],
    end: WindowEnd | None = None,
) -> dict[str, QuantizedModel]:
    """By target of the recipe, the model of these weights as it runs there, its short windows with this `end`.

    The weights have the rounding of inputs that the recipe gives them, `components` is module path -> component of
    every matrix. UserError where the two do not fit together.
    """
    return {name: quantized_model(weights, recipe, components, TARGETS[name], end) for name in recipe.target}


def quantized_model(
    weights: Sequence[QuantizedWeight],
    recipe: Recipe,
    components: Mapping[str, str],
    target: Target = TARGETS["generic"],
    end: WindowEnd | None = None,
) -> QuantizedModel:
    """The same for one target."""
    kind = family(recipe.family)
    specs = recipe.specs(components)
    attention = target.attention or recipe.encoder.attention
    return QuantizedModel(
        family=recipe.family,
        weights=tuple(_for_target(weight, recipe, target) for weight in weights),
        floats={path: FloatMatrix(components[path], spec.bits) for path, spec in specs.items() if not spec.is_integer},
        stem_bits=recipe.stem.bits,
        rotation_bits=recipe.stem.float_bits,
        convolutions=convolution_inputs(kind, recipe.stem.activations),
        attention=Int8Attention(kind.attention_blocks) if attention == "int8" else None,
        shortlist=recipe.embedding.shortlist,
        end=end,
    )


def multiplies_int8(recipe: Recipe, target: Target, component: str, path: str) -> bool:
    """True where a target's form, or where that leaves it open the recipe, lets a matrix multiply integers."""
    form, activations = target.forms[component], recipe.activations(component)
    return form != "low-bit" and (activations.covers(path) or (form == "int8" and activations.kind == "float"))


def convolution_inputs(kind: Family, activations: str) -> dict[str, InputRounding]:
    """How the convolutions that multiply integers round what they read, by module path; `activations` as in a recipe.

    On scales for each window the convolution of a waveform stays float: it has too little to multiply.
    """
    parts = convolutions(kind)
    match activations:
        case "int8-dynamic":
            return {part.path: Dynamic() for part in parts}
        case "int8-token":
            lowest = {"gelu": LOWEST["gelu"], "features": None}
            return {part.path: per_row(lowest[part.reads]) for part in parts if part.reads != "waveform"}
        case _:
            return {}


def _for_target(weight: QuantizedWeight, recipe: Recipe, target: Target) -> QuantizedWeight:
    """The weight with the rounding of its inputs that the target's form asks for.

    The target says what multiplies integers; how inputs are rounded then, and which layers are left out, is the
    recipe's `activations`, else one scale for the whole tensor.
    """
    if (weight.inputs is not None) != recipe.activations(weight.component).covers(weight.name):
        remedy = f"its activations are not those the recipe gives {weight.component}; report this"
        raise UserError("export", weight.name, remedy)
    if not multiplies_int8(recipe, target, weight.component, weight.name):
        return replace(weight, inputs=None)
    return weight if weight.inputs is not None else replace(weight, inputs=Dynamic())
