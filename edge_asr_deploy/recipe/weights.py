"""What a recipe says of one part of the model: pydantic models. Extra keys are errors."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from edge_asr_deploy.recipe.methods import (
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

GROUP_SIZES = (16, 32, 64, 128)


class SpecModel(BaseModel):
    """Frozen; a key that does not exist is an error."""

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


class WeightSpec(SpecModel):
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

    def at(self, bits: int) -> WeightSpec:
        """The same at another width, as `layers` would say it."""
        return LayerSpec(bits=bits).over(self)

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


class LayerSpec(SpecModel):
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
            changes = {"storage": "plain", "granularity": "channel", "symmetric": True, **changes}
        return spec.model_copy(update=changes)


class Component(SpecModel):
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


class Stem(SpecModel):
    """The front-end convolutions and positional tables: stored narrow, computed in float32.

    With `bits: 8` the convolutions can multiply integers: `int8-dynamic` rounds the whole input on one scale (Whisper),
    `int8-token` each window on its own (what has one channel only, as Moonshine's waveform, stays float).
    """

    unsaid = {"activations": "float"}

    bits: Literal[8, 16, 32] = 16
    activations: Literal["float", "int8-dynamic", "int8-token"] = "float"

    @property
    def float_bits(self) -> int:
        """Width of small matrices that must stay float, rotations: 16, but 32 where the stem is."""
        return max(16, self.bits)

    @model_validator(mode="after")
    def _has_a_kernel(self) -> Stem:
        if self.activations != "float" and self.bits != 8:
            raise ValueError(f"convolutions of {self.bits} bits have no integer kernel; choose bits: 8, or float")
        return self


class Calibration(SpecModel):
    """Which audio the statistics come from. `auto`: EDGE_ASR_DATA, else the Hub, else the clips of the demo wheel."""

    corpus: str = "auto"
    number: int = Field(64, ge=1)
    seed: int = 0
    seconds: float | None = Field(None, gt=0, description="cut each clip to at most this long; None keeps it whole")
