"""What is known of releases of onnxruntime that are in use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from edge_asr_deploy.harness.doctor.finding import Finding, Status

CHECK = "onnxruntime's release"
Release = tuple[int, ...]


@dataclass(frozen=True)
class Fault:
    """A fault of the releases from `first` to `last` (None: not mended yet), on one architecture or on all.

    A `problem` concerns bundles; what is `ok` concerns other programs' graphs only. `source` is where it is described.
    """

    first: Release
    last: Release | None
    status: Status
    said: str
    source: str
    architecture: str | None = None

    def concerns(self, release: Release, architecture: str) -> bool:
        """True where this release on this architecture has the fault."""
        is_in = self.first <= release and (self.last is None or release <= self.last)
        return is_in and self.architecture in (None, architecture)


FAULTS = (
    Fault(
        (0,),
        (1, 24, 99),
        "problem",
        "bundles do not run on it, or their matrices are not fused",
        "make test-onnxruntime",
    ),
    Fault(
        (1, 21, 0),
        (1, 21, 0),
        "problem",
        "it ends with an illegal instruction on a Raspberry Pi 4",
        "microsoft/onnxruntime, issue 23957",
        "aarch64",
    ),
    Fault(
        (1, 24, 1),
        None,
        "ok",
        "float16 arithmetic gives NaN on it; bundles have none, graphs of other programs may",
        "microsoft/onnxruntime, issue 32600",
        "aarch64",
    ),
    Fault(
        (1, 25),
        (1, 25, 99),
        "ok",
        "it does not open some quantized Whisper decoders of other programs; bundles open",
        "microsoft/onnxruntime, issue 28306",
    ),
)


def release_findings(version: str, architecture: str) -> Iterator[Finding]:
    """Known faults of this version of onnxruntime; none for a version that is no number."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    if match is None:
        return
    release = tuple(int(part) for part in match.groups("0"))
    for fault in FAULTS:
        if fault.concerns(release, architecture):
            found = f"{version}: {fault.said} ({fault.source})"
            remedy = "install onnxruntime 1.26 or newer" if fault.status == "problem" else ""
            yield Finding(check=CHECK, status=fault.status, found=found, remedy=remedy)
