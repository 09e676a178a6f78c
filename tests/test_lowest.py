"""The bounds of the base install are versions that the tests run on: tests/lowest.txt has the lowest of each."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from edge_asr_deploy.runtime.session import LOWEST_ONNXRUNTIME

ROOT = Path(__file__).parent.parent


def bounds() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # `,<3` is another bound.
    return dict(requirement.partition(",")[0].split(">=") for requirement in project["dependencies"])


def release(version: str) -> tuple[int, ...]:
    """1.26.0 and 1.26 are the same version."""
    numbers = [int(part) for part in version.split(".")]
    while numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def test_the_tested_lowest_versions_are_the_bounds() -> None:
    lines = (ROOT / "tests" / "lowest.txt").read_text().splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert {name: release(version) for name, version in tested.items()} == {
        name: release(version) for name, version in bounds().items()
    }


def test_the_remedy_for_an_old_onnxruntime_names_the_bound() -> None:
    assert release(bounds()["onnxruntime"]) == LOWEST_ONNXRUNTIME


def test_ci_runs_them() -> None:
    assert re.search(r"^make .*test-lowest", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert "make test-lowest" in (ROOT / ".github" / "workflows" / "tests.yml").read_text()
