"""What a check of the gate says: the verdict of each check, of each bundle, and whether all is well."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field

Verdict = Literal["passed", "failed", "not measured"]
NAMES = (
    "files",
    "targets",
    "side-files",
    "layers",
    "operators",
    "kernels",
    "dequantize",
    "stored-once",
    "size",
    "tokens",
    "wer",
    "runaway",
    "empty",
    "speed-encoder",
    "speed-prompt",
    "speed-step",
)


class Check(BaseModel):
    """One check: the measured value, the limit and the verdict. `note` gives the reason or the remedy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    verdict: Verdict
    measured: str = ""
    limit: str = ""
    note: str = ""
    slack: str = Field("", description="set if the limit is far above the noise")
    warning: str = Field("", description="what the check cannot see; it changes no verdict")


class BundleReport(BaseModel):
    """All checks of one bundle. The paths are as the user wrote them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: str
    baseline: str
    checks: list[Check]


class Report(BaseModel):
    """The output of `edge-deploy check --json`. `allowed` names the checks that may be "not measured"."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allowed: list[str]
    bundles: list[BundleReport]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """True when no check blocks the gate."""
        return not any(self.blocks(check) for bundle in self.bundles for check in bundle.checks)

    def blocks(self, check: Check) -> bool:
        """True for a check that failed, and for one that was not measured although it must be."""
        return check.verdict == "failed" or (check.verdict == "not measured" and check.name not in self.allowed)


def not_measured(name: str, note: str) -> Check:
    """A check that could not be made; `note` says why. It does not count as passed."""
    return Check(name=name, verdict="not measured", note=note)
