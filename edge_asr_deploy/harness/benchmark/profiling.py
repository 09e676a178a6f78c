"""Shows where the time goes within a graph, with onnxruntime's profiler on the encoder and on one decoder step."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.benchmark.result import GraphProfile, NodeTime, OperatorTime
from edge_asr_deploy.harness.gate.relative_speed import graph_files, part_calls
from edge_asr_deploy.runtime.session import SessionSettings, open_session

RUNS: dict[Literal["encoder", "step"], int] = {"encoder": 5, "step": 50}
SLOWEST = 10
KERNEL = "_kernel_time"


def profile(bundle: Path, settings: SessionSettings, target: str | None = None) -> list[GraphProfile]:
    """Profile encoder and decoder step of a bundle on fixed inputs (8 s of noise, 4 tokens in the cache).

    `target` means the same as in `graph_files`.
    """
    with tempfile.TemporaryDirectory() as folder:
        encoder, decoder = (
            open_session(path, settings, Path(folder) / path.name) for path in graph_files(bundle, target)
        )
        calls = part_calls(bundle, encoder, decoder)
        for part, runs in RUNS.items():
            for _ in range(runs):
                calls[part]()
        try:
            traces = [json.loads(Path(session.end_profiling()).read_bytes()) for session in (encoder, decoder)]
        except (OSError, ValueError) as error:
            raise UserError(
                "--profile", folder, f"onnxruntime wrote no trace to this folder ({error}); free some disk space"
            ) from None
    return [graph_profile(trace, part, runs) for trace, (part, runs) in zip(traces, RUNS.items(), strict=True)]


def graph_profile(trace: Sequence[dict[str, Any]], part: Literal["encoder", "step"], runs: int) -> GraphProfile:
    """Sum up the last `runs` runs of a trace, the JSON list that onnxruntime's profiler writes (times in us)."""
    whole = sorted((event for event in trace if event.get("name") == "model_run"), key=lambda event: event["ts"])[
        -runs:
    ]
    start = whole[0]["ts"]
    kernels = [event for event in trace if event.get("cat") == "Node" and event["name"].endswith(KERNEL)]
    own = own_times([event for event in kernels if event["ts"] >= start])
    total = sum(event["dur"] for event in whole)
    by_kind: dict[str, float] = defaultdict(float)
    by_node: dict[tuple[str, str], float] = defaultdict(float)
    for event, duration in own:
        name, kind = event["name"].removesuffix(KERNEL), event["args"]["op_name"]
        by_kind[kind] += duration
        by_node[name, kind] += duration
    nodes = {kind: sum(other == kind for _, other in by_node) for kind in by_kind}
    return GraphProfile(
        part=part,
        runs=len(whole),
        ms=total / len(whole) / 1000,
        outside=max(0.0, 1 - sum(by_kind.values()) / total),
        operators=[
            OperatorTime(kind=kind, nodes=nodes[kind], ms=time / len(whole) / 1000, share=time / total)
            for kind, time in sorted(by_kind.items(), key=lambda item: -item[1])
        ],
        nodes=[
            NodeTime(name=name, kind=kind, ms=time / len(whole) / 1000, share=time / total)
            for (name, kind), time in sorted(by_node.items(), key=lambda item: -item[1])[:SLOWEST]
        ],
    )


def own_times(events: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], float]]:
    """Each event with its own time, without the events inside it: an If contains the operators of its branch."""
    own: list[list[Any]] = []
    open_: list[list[Any]] = []
    # Of two events that begin together, the longer one contains the other.
    for event in sorted(events, key=lambda event: (event["ts"], -event["dur"])):
        while open_ and event["ts"] >= open_[-1][0]["ts"] + open_[-1][0]["dur"]:
            open_.pop()
        if open_:
            open_[-1][1] -= event["dur"]
        entry = [event, float(event["dur"])]
        own.append(entry)
        open_.append(entry)
    return [(event, max(0.0, duration)) for event, duration in own]
