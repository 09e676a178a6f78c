"""How a recipe stores weight matrices: of a component, and of single layers."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, field_validator

from edge_asr_deploy.recipe.methods import (
    Method,
    Preparation,
    QepOptions,
    RotationOptions,
    RsqOptions,
    RtnOptions,
    Scaling,
)
from edge_asr_deploy.recipe.spec_model import SpecModel

GROUP_SIZES = (16, 32, 64, 128)


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

    defaults_left_out: ClassVar[dict[str, object]] = {"storage": "plain"}

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
