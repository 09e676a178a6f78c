"""Traces of onnxruntime's profiler, summed up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_asr_deploy.harness.benchmark.profiling import graph_profile, own_times, profile
from edge_asr_deploy.runtime.session import SessionSettings
from tests.support.exported import Exported, export


def node(name: str, kind: str, ts: int, dur: int) -> dict[str, Any]:
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": {"op_name": kind}}


def run(ts: int, dur: int) -> dict[str, Any]:
    return {"cat": "Session", "name": "model_run", "ts": ts, "dur": dur, "args": {}}


def test_only_the_last_runs_count() -> None:
    warm_up = [run(0, 900), node("a", "MatMul", 10, 800)]
    runs = [run(1000, 100), node("a", "MatMul", 1010, 60), node("b", "Add", 1080, 10), run(2000, 100)]
    runs += [node("a", "MatMul", 2010, 40), node("c", "MatMul", 2060, 20), {"name": "session_initialization", "ts": 5}]
    found = graph_profile([*warm_up, *runs], "step", 2)
    assert (found.runs, found.ms, found.outside) == (2, pytest.approx(0.1), pytest.approx(0.35))
    assert [(o.kind, o.nodes, o.share) for o in found.operators] == [
        ("MatMul", 2, pytest.approx(0.6)),
        ("Add", 1, pytest.approx(0.05)),
    ]
    assert next((n.name, n.kind, n.ms) for n in found.nodes) == ("a", "MatMul", pytest.approx(0.05))


def test_a_branch_is_not_counted_twice() -> None:
    events = [node("if", "If", 0, 100), node("m", "MatMul", 5, 60), node("n", "Add", 70, 20), node("o", "Add", 100, 7)]
    assert [(event["args"]["op_name"], own) for event, own in own_times(events)] == [
        ("If", 20),
        ("MatMul", 60),
        ("Add", 20),
        ("Add", 7),
    ]


@pytest.fixture(scope="module")
def moonshine(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export("moonshine", tmp_path_factory.mktemp("profiled"))


def test_onnxruntime_writes_such_traces(moonshine: Exported) -> None:
    encoder, step = profile(Path(moonshine.bundle), SessionSettings(threads=1))
    assert [encoder.part, step.part] == ["encoder", "step"]
    for found in (encoder, step):
        assert found.ms > 0
        assert sum(operator.share for operator in found.operators) + found.outside == pytest.approx(1, abs=1e-6)
        assert "MatMul" in {operator.kind.removeprefix("Fused") for operator in found.operators}
    assert "Conv" in {operator.kind for operator in encoder.operators}
    assert "Conv" not in {operator.kind for operator in step.operators}
