"""The emulator, small random bundles, and the recorded numbers of instructions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from tests.arm.emulator import Emulator, Unavailable, emulator

RECORD = Path(__file__).with_name("instructions.json")
# Counts of a small model repeat to 0.2 % (where things lie in memory), of a real one to 0.01 %.
TOLERANCE = 0.01

Figures = dict[str, float]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-instructions", action="store_true", help=f"write what is counted to {RECORD.name}")


@pytest.fixture(scope="session")
def machine() -> Emulator:
    try:
        return emulator()
    except Unavailable as error:
        pytest.skip(f"no ARM emulator: {error}")


@pytest.fixture(scope="session")
def counting(machine: Emulator) -> Emulator:
    if not machine.counts:
        pytest.skip("instructions are counted by a plugin for qemu 7 that a C compiler makes at set-up: none was found")
    return machine


@pytest.fixture(scope="session")
def regression(request: pytest.FixtureRequest) -> Iterator[Callable[[str, str, Figures], list[str]]]:
    """`regression(cpu, bundle, figures)`: what differs from the record by more than 1 %, as lines.

    With --update-instructions the record is written instead, for the installed onnxruntime.
    """
    record: dict[str, Any] = json.loads(RECORD.read_text())
    version = f"onnxruntime {onnxruntime.__version__}"
    update = request.config.getoption("--update-instructions", default=False)

    def compare(cpu: str, bundle: str, figures: Figures) -> list[str]:
        if update:
            record.setdefault(version, {}).setdefault(cpu, {})[bundle] = figures
            return []
        try:
            known = record[version][cpu][bundle]
        except KeyError:
            pytest.skip(f"no figures of {version} on {cpu} for {bundle}: run with --update-instructions")
        return differences(known, figures)

    yield compare
    if update:
        RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def differences(known: Figures, found: Figures) -> list[str]:
    """Parts whose instructions are off the record, fewer as well: a gain is recorded, so that it cannot be lost."""
    lines = []
    for part in sorted(known.keys() | found.keys()):
        before, now = known.get(part, 0.0), found.get(part, 0.0)
        if abs(now - before) > TOLERANCE * before:
            lines.append(
                f"{part}: {now:.0f} instructions, {before:.0f} recorded ({now / before - 1 if before else 1:+.1%})"
            )
    return lines
