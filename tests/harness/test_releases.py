"""What the doctor knows of onnxruntime's releases."""

from __future__ import annotations

import pytest

from edge_asr_deploy.harness.doctor.releases import FAULTS, release_findings
from edge_asr_deploy.runtime.session import LOWEST_ONNXRUNTIME


@pytest.mark.parametrize(
    ("version", "architecture", "statuses", "said"),
    [
        ("1.24.4", "x86_64", ["problem"], "bundles do not run on it"),
        ("1.21.0", "aarch64", ["problem", "problem"], "illegal instruction"),
        ("1.25.1", "x86_64", ["ok"], "other programs"),
        ("1.32.0", "aarch64", ["ok"], "float16"),
        ("1.32.0", "x86_64", [], ""),
        ("1.33.0.dev20261101", "x86_64", [], ""),
        ("unknown", "aarch64", [], ""),
    ],
)
def test_faults_of_releases(version: str, architecture: str, statuses: list[str], said: str) -> None:
    findings = list(release_findings(version, architecture))
    assert [one.status for one in findings] == statuses
    assert said in " ".join(one.found for one in findings)
    assert all(bool(one.remedy) == (one.status == "problem") for one in findings)


def test_what_the_bound_admits_is_no_problem() -> None:
    for architecture in ("x86_64", "aarch64"):
        lowest = ".".join(map(str, LOWEST_ONNXRUNTIME))
        assert all(one.status == "ok" for one in release_findings(f"{lowest}.0", architecture))
    assert all(fault.source for fault in FAULTS)
