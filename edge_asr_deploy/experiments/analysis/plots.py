"""Measurements as pictures (PNG), by matplotlib."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.experiments.analysis.statistics import MatrixStatistics

MB = 1_000_000
DPI = 120
# Below this a logarithmic axis ends.
LEAST = 1e-9


def require_matplotlib() -> None:
    """UserError with the command that installs matplotlib where it is missing; to be called before the measurements."""
    if find_spec("matplotlib") is None:
        raise UserError("plots need", "matplotlib", 'is not installed; pip install "edge-asr-deploy[fit]"')


def plot_sensitivities(sensitivities: Mapping[str, Mapping[int, float]], path: Path) -> None:
    """KL of every matrix, one line of dots per width, on a logarithmic axis."""
    figure, axes = _figure(sensitivities)
    rows = range(len(sensitivities))
    for bits in sorted(next(iter(sensitivities.values()))):
        axes.plot(
            [max(widths[bits], LEAST) for widths in sensitivities.values()], rows, "o", label=f"{bits} bits", ms=4
        )
    axes.set_xscale("log")
    axes.set_xlabel("KL of the logits, nats per token, this matrix alone rounded")
    axes.legend(loc="best", fontsize=8)
    _finish(figure, axes, list(sensitivities), path)


def plot_statistics(statistics: Sequence[MatrixStatistics], path: Path) -> None:
    """Kurtosis of every matrix and of its inputs."""
    figure, axes = _figure(statistics)
    axes.plot([s.weight.kurtosis for s in statistics], range(len(statistics)), "o", label="weights", ms=4)
    seen = [(s.inputs.kurtosis, row) for row, s in enumerate(statistics) if s.inputs is not None]
    if seen:
        axes.plot(*zip(*seen, strict=True), "x", label="inputs", ms=5)
    axes.set_xscale("log")
    axes.axvline(3, color="grey", lw=0.8)
    axes.set_xlabel("kurtosis (3: normal distribution)")
    axes.legend(loc="best", fontsize=8)
    _finish(figure, axes, [s.path for s in statistics], path)


def plot_front(points: Sequence[Mapping[str, Any]], chosen: tuple[int, float], path: Path) -> None:
    """Size against summed KL, the chosen point marked, and the measured rises in WER where there are some."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5))
    axes = figure.subplots()
    axes.plot([p["size"] / MB for p in points], [max(p["divergence"], LEAST) for p in points], ".-", lw=0.8)
    axes.plot([chosen[0] / MB], [max(chosen[1], LEAST)], "o", ms=9, mfc="none", label="chosen")
    for point in points:
        if point["rise"] is not None:
            where = (point["size"] / MB, max(point["divergence"], LEAST))
            axes.annotate(f"{point['rise']:+.2f} WER", where, textcoords="offset points", xytext=(4, 6), fontsize=8)
    axes.set_yscale("log")
    axes.set_xlabel("*.onnx, MB")
    axes.set_ylabel("summed KL, nats per token")
    axes.legend()
    axes.grid(alpha=0.3)
    _save(figure, path)


def _figure(rows: Any) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2 + 0.16 * len(rows)))
    return figure, figure.subplots()


def _finish(figure: Any, axes: Any, names: Sequence[str], path: Path) -> None:
    axes.set_yticks(range(len(names)), [name.removeprefix("model.") for name in names], fontsize=6)
    axes.invert_yaxis()
    axes.grid(alpha=0.3)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    """All at once, as every file here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        figure.savefig(Path(scratch) / path.name, dpi=DPI)
        os.replace(Path(scratch) / path.name, path)
