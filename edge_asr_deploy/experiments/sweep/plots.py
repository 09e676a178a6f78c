"""Word error rate against what it costs: one picture per cost, one panel per model, one colour per method."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.experiments.sweep.grid import FLOAT
from edge_asr_deploy.experiments.sweep.record import Measured, Record, SweepResult

MB = 1_000_000
MARKERS = "osD^vP*X"


@dataclass(frozen=True)
class Cost:
    """A horizontal axis. `value` is None where a cell does not have it."""

    name: str
    label: str
    value: Callable[[Measured], float | None]


COSTS = (
    Cost("wer-bits", "bits per weight, with scales", lambda m: m.effective_bits),
    Cost("wer-size", "MB of the ONNX files", lambda m: m.onnx_bytes / MB),
    Cost("wer-bops", "bit operations, % of 32/32", lambda m: 100 * m.paper.relative_bops),
    Cost("wer-memory-io", "memory I/O, MB", lambda m: None if m.paper.memory_io is None else m.paper.memory_io / MB),
)


def draw(result: SweepResult) -> dict[str, bytes]:
    """PNG files by name; none while no cell is done. UserError when matplotlib is not installed."""
    if not any(record.measured and record.values["method"] != FLOAT for record in result.cells):
        return {}
    return {f"{cost.name}.png": _picture(result, cost) for cost in COSTS}


def _picture(result: SweepResult, cost: Cost) -> bytes:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("plots", "matplotlib", 'is not installed; pip install "edge-asr-deploy[export]"') from None
    done = [record for record in result.cells if record.measured]
    models = list(dict.fromkeys(record.values["model"] for record in done))
    figure = Figure(figsize=(5.5 * len(models), 4.8), layout="constrained")
    panels = figure.subplots(1, len(models), squeeze=False)[0]
    for panel, model in zip(panels, models, strict=True):
        _panel(panel, result, [record for record in done if record.values["model"] == model], cost)
        panel.set_title(model)
    panels[0].set_ylabel("WER %")
    buffer = io.BytesIO()
    # Without the software's version in it, equal figures are equal files.
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _panel(panel: Any, result: SweepResult, records: Sequence[Record], cost: Cost) -> None:
    methods = list(dict.fromkeys(r.values["method"] for r in result.cells if r.values["method"] != FLOAT))
    settings = list(dict.fromkeys(r.values["setting"] for r in result.cells if "setting" in r.values))
    for number, method in enumerate(methods):
        points = [
            (x, 100 * r.measured.pooled.wer, r.values["setting"])
            for r in records
            if r.measured and r.values["method"] == method and (x := cost.value(r.measured)) is not None
        ]
        for x, y, setting in points:
            marker = MARKERS[settings.index(setting) % len(MARKERS)]
            panel.plot(x, y, marker, color=f"C{number}", markersize=6, alpha=0.8)
    for record in records:
        if record.values["method"] == FLOAT and record.measured:
            panel.axhline(100 * record.measured.pooled.wer, color="black", linewidth=1, linestyle="--")
    for number, method in enumerate(methods):
        panel.plot([], [], "s", color=f"C{number}", label=method)
    for number, setting in enumerate(settings):
        panel.plot([], [], MARKERS[number % len(MARKERS)], color="grey", label=setting)
    panel.plot([], [], "--", color="black", linewidth=1, label=FLOAT)
    # A method that fails at few bits must not press all others into one line.
    rates = [r.measured.pooled.wer for r in records if r.measured]
    if min(rates) > 0 and max(rates) > 4 * min(rates):
        panel.set_yscale("log")
    panel.set_xlabel(cost.label)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=7, ncols=2)
