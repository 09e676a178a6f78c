"""A few new hostile inputs of every kind, and all that once failed (`corpus.json`)."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.__main__ import outcome_of
from tests.fuzz.mutations import places
from tests.fuzz.running import Wrong, run
from tests.fuzz.targets import TARGETS, Target

CORPUS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "corpus.json").read_text())
# Other seeds than `python -m tests.fuzz` begins with.
SEED, CASES = 1, 12


@pytest.fixture(scope="module", params=sorted(TARGETS))
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Target]:
    if request.param != "audio":
        pytest.importorskip("torch")
    target = TARGETS[request.param]()
    target.prepare(tmp_path_factory.mktemp(request.param))
    return request.param, target


def test_hostile_input_is_taken_or_refused_in_one_line(prepared: tuple[str, Target]) -> None:
    name, target = prepared
    cases = [(entry["seed"], entry["number"]) for entry in CORPUS if entry["target"] == name]
    for seed, number in [*cases, *((SEED, number) for number in range(CASES))]:
        outcome = outcome_of(target, name, seed, number)
        assert not outcome.is_finding, f"{name} {seed} {number}: {outcome.kind}: {outcome.said}"


def test_what_is_nested_without_end_can_be_changed_again() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    assert len(list(places(deep))) == 5000


def test_what_is_found_is_a_finding(tmp_path: Path) -> None:
    """A harness that finds nothing proves nothing."""

    def silent(folder: Path) -> None:
        raise Wrong("another text")

    def broken(folder: Path) -> None:
        raise KeyError("x")

    def killed(folder: Path) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def greedy(folder: Path) -> None:
        bytearray(b"x") * 1_000_000_000

    kinds = [run(case, tmp_path).kind for case in (lambda folder: None, silent, broken, killed, greedy)]
    assert kinds == ["good", "wrong", "traceback", "crash", "memory"]
