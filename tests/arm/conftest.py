"""The emulator, small random bundles, and the recorded numbers of instructions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnxruntime
import pytest

from tests.support.fixtures_real import data, exported
from tools.arm.emulator import Emulator, Unavailable, emulator
from tools.arm.record import RECORD, Figures, differences, read_record, write_record

__all__ = ["data", "exported"]


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
    record = read_record()
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
        write_record(record)
