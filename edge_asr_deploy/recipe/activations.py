"""What a recipe says of the activations that one component's Linear layers multiply."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator


class ActivationSpec(BaseModel):
    """What one component's Linear layers multiply: floats, or uint8 rounded at run time or on fixed ranges.

    A recipe may write the kind alone. `skip` holds shell patterns of module paths whose layers keep float activations.
    `token` holds patterns of layers that round each row on its own scale; other layers use one scale per tensor.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["float", "int8-dynamic", "int8-static"] = "float"
    calibrator: Literal["minmax", "percentile", "mse", "average"] = Field(
        "minmax", description="how int8-static takes its ranges from calibration speech"
    )
    percentile: float = Field(
        99.99, gt=50, le=100, description="share of the values that calibrator `percentile` keeps"
    )
    skip: tuple[str, ...] = ()
    token: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _from_kind(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @model_serializer
    def _short(self) -> str | dict[str, Any]:
        """What differs from the defaults; the kind alone where nothing else does."""
        fields = type(self).model_fields
        document = {name: getattr(self, name) for name in fields if getattr(self, name) != fields[name].default}
        document["kind"] = self.kind
        for name in ("skip", "token"):
            if name in document:
                document[name] = list(document[name])
        return self.kind if len(document) == 1 else document

    def covers(self, path: str) -> bool:
        """True when the layer at that module path multiplies integers."""
        return self.kind != "float" and not any(fnmatchcase(path, pattern) for pattern in self.skip)

    def by_token(self, path: str) -> bool:
        """True when that layer rounds each row of its input on a scale of its own."""
        return self.covers(path) and any(fnmatchcase(path, pattern) for pattern in self.token)
