"""Which build of whisper.cpp is timed."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from benchmarks.compiled import build_in_use
from benchmarks.forms import Unavailable

WHEEL, OWN = "['Tag: cp311-cp311-manylinux_2_28_x86_64']", "['Tag: cp311-cp311-linux_x86_64']"


class Machine:
    """Stands for an environment: what is installed, and how each build ends."""

    def __init__(self, tags: str, codes: list[int]) -> None:
        self.tags, self.codes, self.installed = tags, codes, list[str]()

    def __call__(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        if "pip" in command:
            self.installed.append(command[-1])
            return subprocess.CompletedProcess(command, 0, "", "")
        is_question = "WHEEL" in command[2]
        return subprocess.CompletedProcess(command, 0 if is_question else self.codes.pop(0), self.tags, "")


def test_what_runs_is_named() -> None:
    assert build_in_use(Path("python"), Path("m"), Machine(OWN, [0])) == "compiled on this machine"
    assert build_in_use(Path("python"), Path("m"), Machine(WHEEL, [0])) == "the portable wheel"


def test_a_build_that_dies_gives_way_to_the_wheel() -> None:
    machine = Machine(OWN, [-signal.SIGSEGV, 0])
    assert "portable wheel, since what was compiled on this machine died with SIGSEGV" in build_in_use(
        Path("python"), Path("m"), machine
    )
    assert machine.installed[0].startswith("pywhispercpp==")


@pytest.mark.parametrize(("tags", "codes"), [(OWN, [-11, -4]), (WHEEL, [-11])])
def test_where_nothing_runs_it_is_left_out(tags: str, codes: list[int]) -> None:
    with pytest.raises(Unavailable, match="dies with SIGSEGV"):
        build_in_use(Path("python"), Path("m"), Machine(tags, codes))
