"""The result of one of the doctor's checks."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

MB = 1_000_000

Status = Literal["ok", "warning", "problem"]


class Finding(BaseModel):
    """The result of one check. A `problem` keeps bundles from running; a `warning` makes them run worse."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    check: str
    status: Status
    found: str
    remedy: str = ""
