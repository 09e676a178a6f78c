"""How far a bundle may differ from its record, and from where on a tolerance passes what it should find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_asr_deploy.errors import UserError


class Tolerances(BaseModel):
    """How far a bundle may differ from its record. Shares are fractions: 0.01 is one in a hundred."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    wer_absolute: float = Field(
        0.01, ge=0, description="rise of the WER; the larger of absolute and relative tolerance counts"
    )
    wer_relative: float = Field(0.1, ge=0, description="rise of the WER as a share of the record's")
    tokens: float = Field(0, ge=0, le=1, description="share of clips with other tokens, on the record's CPU")
    tokens_elsewhere: float = Field(
        0.25,
        ge=0,
        le=1,
        description="share of clips with other tokens on another CPU or onnxruntime, which round differently",
    )
    size: float = Field(0.01, ge=0, description="growth of the ONNX files")
    speed: float = Field(0.1, ge=0, description="growth of the time relative to the float bundle's")
    runaway: int = Field(0, ge=0, description="more clips that repeat themselves without end")
    empty: int = Field(0, ge=0, description="more clips without a word")


@dataclass(frozen=True)
class Ceiling:
    """The largest sensible value of a tolerance, and what a larger one lets pass."""

    value: float
    passes: str


# A tolerance is for what good exports differ in. Above these values lie faults that the gate is there to find.
CEILINGS = MappingProxyType(
    {
        # The shipped recipes of 4 bits cost less than two points.
        "wer_absolute": Ceiling(0.05, "a bundle that mishears one word more in 20"),
        "wer_relative": Ceiling(0.5, "a bundle with half as many errors more"),
        # The same kernels on the same CPU give the same tokens: few clips may flip where an export is not exact.
        "tokens": Ceiling(0.25, "a bundle that says something else in every fourth clip"),
        # Other kernels round differently: in 40 short clips of whisper-tiny.en, some tokens of a quarter flip.
        "tokens_elsewhere": Ceiling(0.5, "a bundle that says something else in every second clip"),
        # Names and shapes take less than 1 %. One bit more for all weights is more than 10 %.
        "size": Ceiling(0.1, "weights stored with more bits"),
        # Noise is 5 %. A product that falls back to float costs more than half.
        "speed": Ceiling(0.5, "matrices that run in float"),
        "runaway": Ceiling(2, "a bundle that repeats itself in clip after clip"),
        "empty": Ceiling(2, "a bundle that is silent in clip after clip"),
    }
)


def excess(tolerances: Tolerances, *names: str) -> str:
    """A warning that names those of these tolerances that lie above their ceiling; empty when none does."""
    warnings = (
        f"the tolerance {name}={getattr(tolerances, name):g} is above {CEILINGS[name].value:g}: "
        f"it passes {CEILINGS[name].passes}"
        for name in names
        if getattr(tolerances, name) > CEILINGS[name].value
    )
    return "; ".join(warnings)


def override(tolerances: Tolerances, settings: Sequence[str]) -> Tolerances:
    """Replace some tolerances by `KEY=VALUE` settings. UserError for an unknown key or an invalid value."""
    changes: dict[str, Any] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in Tolerances.model_fields:
            raise UserError(
                "--tolerance", setting, f"write KEY=VALUE with one of the keys {', '.join(Tolerances.model_fields)}"
            )
        changes[key] = value
    return _checked({**tolerances.model_dump(), **changes})


def _checked(values: Mapping[str, Any]) -> Tolerances:
    try:
        return Tolerances.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError("--tolerance", f"{first['loc'][0]}={first['input']}", first["msg"]) from None
