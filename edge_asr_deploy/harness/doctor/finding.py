"""One thing that the doctor looked at."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

MB = 1_000_000

Status = Literal["ok", "warning", "problem"]


class Finding(BaseModel):
    """One thing that was looked at. `problem`: bundles do not run before it is mended; `warning`: they run worse."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    check: str
    status: Status
    found: str
    remedy: str = ""
