"""What to do: a recipe is a YAML file of these models. Extra keys are errors that name the key and the allowed ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import (
    Field,
    ValidationError,
    field_serializer,
    field_validator,
)

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.recipe.methods import (
    METHODS,
    ActivationSpec,
    Learning,
)
from edge_asr_deploy.recipe.weights import (
    Calibration,
    Component,
    Embedding,
    Encoder,
    LayerSpec,
    SpecModel,
    Stem,
    WeightSpec,
)
from edge_asr_deploy.runtime.targets import TARGETS


class Recipe(SpecModel):
    """The whole decision: which model, how each component is stored, and on what speech it is calibrated."""

    name: str
    family: Literal["whisper", "moonshine"]
    model: str | None = None
    encoder: Encoder = Encoder()
    cross_attention: Component = Component()
    decoder: Component = Component()
    embedding: Embedding = Embedding()
    stem: Stem = Stem()
    layers: dict[str, LayerSpec] = Field(
        default_factory=dict, description="shell patterns on module paths; of several that match, the later one wins"
    )
    calibration: Calibration = Calibration()
    target: tuple[str, ...] = Field(
        ("generic",), description="a name, or several, whose graphs then share the stored weights"
    )

    @field_validator("target", mode="before")
    @classmethod
    def _known_targets(cls, value: object) -> object:
        names = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
        if not isinstance(names, list | tuple) or not names:
            raise ValueError("write a name, or a list of names")
        for name in names:
            if name not in TARGETS:
                which = "" if len(names) == 1 else f"{name}: "
                raise ValueError(f"{which}no such target; choose {', '.join(TARGETS)}")
        return tuple(dict.fromkeys(names))

    @field_serializer("target")
    def _short_target(self, value: tuple[str, ...]) -> str | list[str]:
        return value[0] if len(value) == 1 else list(value)

    @property
    def is_float(self) -> bool:
        """True when nothing becomes integer codes: the float baseline."""
        some = any(getattr(self, c).weights.is_integer for c in COMPONENTS)
        return not some and not any(layer.bits is not None and layer.bits <= 8 for layer in self.layers.values())

    def component(self, name: str) -> WeightSpec:
        """The weight spec of `encoder`, `cross_attention`, `decoder` or `embedding`."""
        spec: WeightSpec = getattr(self, name).weights
        return spec

    def weights(self, path: str, component: str) -> WeightSpec:
        """The spec of the matrix at a module path: its component's, changed by the `layers` that match the path."""
        spec = self.component(component)
        for pattern, layer in self.layers.items():
            if fnmatchcase(path, pattern):
                spec = layer.over(spec)
        return spec

    def specs(self, components: Mapping[str, str]) -> dict[str, WeightSpec]:
        """The spec of every matrix in `components` (module path -> component); UserError as `require_matches`."""
        self.require_matches(components)
        return {path: self.weights(path, component) for path, component in components.items()}

    def require_matches(self, paths: Iterable[str]) -> None:
        """UserError for a key of `layers` that matches none of a model's module paths."""
        known = list(paths)
        for pattern in self.layers:
            if not any(fnmatchcase(path, pattern) for path in known):
                remedy = f"matches no matrix of this model; they are called like {known[0]} or {known[-1]}"
                raise UserError(f"recipe {self.name}", f"layers.{pattern}", remedy)

    def require_kernels(self, components: Mapping[str, str]) -> None:
        """UserError for a matrix in `components` (module path -> component) that a target's int8 kernel cannot take.

        `parse` has looked at the components' own specs; those of single layers are known with the model.
        """
        for name in self.target:
            for path, component in components.items():
                activations = self.activations(component)
                skipped = activations.kind != "float" and not activations.covers(path)
                if TARGETS[name].forms[component] != "int8" or skipped:
                    continue
                spec = self.weights(path, component)
                if spec.is_integer and (obstacle := spec.int8_obstacle):
                    raise UserError(f"recipe {self.name}", f"layers: {path}, int8 on {name}", obstacle)

    def with_weights(self, specs: Mapping[str, WeightSpec]) -> Recipe:
        """The same recipe with other weight specs for some components, by name."""
        changes = {}
        for name, spec in specs.items():
            part: Component = getattr(self, name).model_copy(update={"weights": spec})
            # A shortlist is read from codes.
            needless = isinstance(part, Embedding) and not spec.is_integer
            changes[name] = part.model_copy(update={"shortlist": 0}) if needless else part
        return self.model_copy(update=changes)

    def activations(self, name: str) -> ActivationSpec:
        """What the Linear layers of `encoder`, `cross_attention`, `decoder` or `embedding` multiply."""
        spec: ActivationSpec = getattr(self, name).activations
        return spec


def float_recipe(family: str) -> Recipe:
    """The baseline: every weight in float32, nothing calibrated."""
    wide = {"weights": {"bits": 32, "granularity": "channel"}}
    return parse(
        {"name": f"{family}-float", "family": family, "stem": {"bits": 32}, **dict.fromkeys(COMPONENTS, wide)},
        "--bits 32",
    )


def parse(document: object, origin: str) -> Recipe:
    """Validate a decoded YAML document; UserError names the key, the value and what is allowed."""
    if not isinstance(document, dict):
        raise UserError("recipe", origin, "must be a YAML mapping with at least `name` and `family`")
    try:
        recipe = Recipe.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        location = first["loc"]
        key = ".".join(str(part) for index, part in enumerate(location) if not _is_tag(location, index))
        value = "" if first["type"] in ("missing", "extra_forbidden") else f" {first['input']!r}"
        message = re.sub(r"^Value error, ", "", first["msg"])
        if first["type"] == "extra_forbidden":
            message = f"no such key; allowed here: {', '.join(_allowed_keys(location))}"
        raise UserError(f"recipe {origin}", f"{key}{value}", message) from None
    if steps := recipe.embedding.weights.steps:
        names = ", ".join(step.method for step in steps)
        raise UserError(
            f"recipe {origin}", f"embedding.weights.steps {names}", "the tied table is read both ways; leave them out"
        )
    if (method := recipe.embedding.weights.quantizer.method) in ("quik", "spqr"):
        raise UserError(
            f"recipe {origin}",
            f"embedding.weights.quantizer {method}",
            "the tied table has no outliers; use gptq or rtn",
        )
    if recipe.embedding.weights.is_integer and isinstance(recipe.embedding.weights.quantizer, Learning):
        method = recipe.embedding.weights.quantizer.method
        raise UserError(
            f"recipe {origin}",
            f"embedding.weights.quantizer {method}",
            "learns on blocks, and the tied table is in none; choose rtn or gptq",
        )
    turned, heard = recipe.encoder.weights.rotation, recipe.cross_attention.weights
    # Matrices that stay float follow the encoder: they name no steps.
    if turned != heard.rotation and (heard.is_integer or turned is None):
        raise UserError(
            f"recipe {origin}",
            "cross_attention.weights.steps",
            "reads the encoder's output: give encoder and cross_attention the same rotation, or neither",
        )
    if (kind := recipe.embedding.activations.kind) != "float":
        raise UserError(
            f"recipe {origin}",
            f"embedding.activations {kind!r}",
            "leave it float: the target decides how the vocabulary head multiplies",
        )
    if recipe.family == "moonshine" and recipe.stem.activations == "int8-dynamic":
        raise UserError(
            f"recipe {origin}",
            f"stem.activations {recipe.stem.activations!r}",
            "on one scale Moonshine's convolutions lose too much (docs/log/performance.md); choose int8-token or float",
        )
    _check_targets(recipe, origin)
    return recipe


def _check_targets(recipe: Recipe, origin: str) -> None:
    """UserError for components whose codes the kernels of a target do not take."""
    for name in recipe.target:
        for component, form in TARGETS[name].forms.items():
            spec = recipe.component(component)
            if form == "int8" and spec.is_integer and (obstacle := spec.int8_obstacle):
                raise UserError(f"recipe {origin}", f"{component}, int8 on {name}", obstacle)


def _is_tag(location: tuple[Any, ...], index: int) -> bool:
    """True for the method by which pydantic tells options apart: part of its location but not of the user's key."""
    if index == 0 or location[index] not in METHODS:
        return False
    return location[index - 1] == "quantizer" or isinstance(location[index - 1], int)


def _allowed_keys(location: tuple[Any, ...]) -> list[str]:
    model: Any = Recipe
    for index, part in enumerate(location[:-1]):
        if _is_tag(location, index):
            model = METHODS[part]
        elif part == "layers" and index == 0:
            model = LayerSpec
        elif isinstance(part, str) and part in getattr(model, "model_fields", {}):
            model = model.model_fields[part].annotation
    return list(getattr(model, "model_fields", {}))
