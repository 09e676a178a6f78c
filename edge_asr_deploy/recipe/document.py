"""What to do: a recipe is a YAML file of these models. Extra keys are errors that name the key and the allowed ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError, field_serializer, field_validator

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.recipe import rules
from edge_asr_deploy.recipe.activations import ActivationSpec
from edge_asr_deploy.recipe.components import Calibration, Component, Distillation, Embedding, Encoder, Stem
from edge_asr_deploy.recipe.methods import METHODS
from edge_asr_deploy.recipe.overlay import spread_blocks
from edge_asr_deploy.recipe.spec_model import SpecModel
from edge_asr_deploy.recipe.weights import LayerSpec, WeightSpec
from edge_asr_deploy.runtime.targets import TARGETS


class Recipe(SpecModel):
    """The whole decision: which model, how each component is stored, and on what speech it is calibrated."""

    defaults_left_out: ClassVar[dict[str, object]] = {"distillation": None}

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
    distillation: Distillation | None = None
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
        components = any(self.component(name).is_integer for name in COMPONENTS)
        layers = any(layer.bits is not None and layer.bits <= 8 for layer in self.layers.values())
        return not components and not layers

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
        rules.require_matches(self, paths)

    def require_kernels(self, components: Mapping[str, str]) -> None:
        """UserError for a matrix in `components` (module path -> component) that a target's int8 kernel cannot take."""
        rules.require_kernels(self, components)

    def with_weights(self, specs: Mapping[str, WeightSpec]) -> Recipe:
        """The same recipe with other weight specs for some components, by name."""
        changes = {}
        for name, spec in specs.items():
            part: Component = getattr(self, name).model_copy(update={"weights": spec})
            if isinstance(part, Embedding):
                # The whole table gets one width; a float table has no codes that a shortlist could be read from.
                part = part.model_copy(update={"rare": None, "shortlist": part.shortlist if spec.is_integer else 0})
            changes[name] = part
        return self.model_copy(update=changes)

    def activations(self, name: str) -> ActivationSpec:
        """What the Linear layers of `encoder`, `cross_attention`, `decoder` or `embedding` multiply."""
        spec: ActivationSpec = getattr(self, name).activations
        return spec


def float_recipe(family: str) -> Recipe:
    """The baseline: every weight in float32, nothing calibrated."""
    component = {"weights": {"bits": 32, "granularity": "channel"}}
    return parse(
        {"name": f"{family}-float", "family": family, "stem": {"bits": 32}, **dict.fromkeys(COMPONENTS, component)},
        "--bits 32",
    )


def parse(document: object, origin: str) -> Recipe:
    """Validate a decoded YAML document; UserError names the key, the value and what is allowed."""
    if not isinstance(document, dict):
        raise UserError("recipe", origin, "must be a YAML mapping with at least `name` and `family`")
    try:
        recipe = Recipe.model_validate(spread_blocks(document))
    except ValidationError as error:
        first = error.errors()[0]
        location = first["loc"]
        key = ".".join(str(part) for index, part in enumerate(location) if not _is_tag(location, index))
        value = "" if first["type"] in ("missing", "extra_forbidden") else f" {first['input']!r}"
        message = re.sub(r"^Value error, ", "", first["msg"])
        if first["type"] == "extra_forbidden":
            message = f"no such key; allowed here: {', '.join(_allowed_keys(location))}"
        raise UserError(f"recipe {origin}", f"{key}{value}", message) from None
    for what, remedy in rules.refusals(recipe):
        raise UserError(f"recipe {origin}", what, remedy)
    return recipe


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
