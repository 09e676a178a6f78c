"""What all parts of a recipe have in common: they are frozen, and keys that came later do not change older hashes."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


class SpecModel(BaseModel):
    """Frozen; a key that does not exist is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Keys of later versions: omitted while at their default, so that hashes of older recipes stay valid.
    defaults_left_out: ClassVar[dict[str, object]] = {}

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = handler(self)
        for key, default in self.defaults_left_out.items():
            # It may be excluded by whoever dumps.
            if key in document and document[key] == default:
                del document[key]
        return document
