"""One table per metric as markdown, settings side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_asr_deploy.experiments.sweep.grid import FLOAT
from edge_asr_deploy.experiments.sweep.record import Difference, Measured, Record, SweepResult

MB = 1_000_000
# A value, and an interval where it has one.
Value = tuple[float, tuple[float, float] | None]


@dataclass(frozen=True)
class Metric:
    """A figure of a cell. `name` is the file's name; `value` is None where the cell does not have it."""

    name: str
    title: str
    value: Callable[[Measured], Value | None]
    digits: int = 2
    signed: bool = False


def metrics(result: SweepResult) -> list[Metric]:
    """What there is a table of; corpora as they were judged."""
    corpora = dict.fromkeys(c for record in result.cells if record.measured for c in record.measured.by_corpus)
    rate = "WER %"
    return [
        Metric("wer", f"{rate}, pooled over all corpora", lambda m: _plain(100 * m.pooled.wer)),
        Metric("rise", f"{rate} minus the float baseline's, with 95 % paired bootstrap interval", _rise, signed=True),
        Metric(
            f"against-{result.reference}",
            f"{rate} minus that of {result.reference} at the same setting, with 95 % paired bootstrap interval",
            lambda m: _points(m.against_reference),
            signed=True,
        ),
        *(Metric(f"wer-{corpus}", f"{rate} on {corpus}", _of_corpus(corpus)) for corpus in corpora),
        Metric("megabytes", "MB of the ONNX files", lambda m: _plain(m.onnx_bytes / MB)),
        Metric("effective-bits", "Bits per weight of all matrices, with scales", lambda m: _plain(m.effective_bits)),
        Metric(
            "effective-bits-blocks",
            "Bits per weight of the Linear layers of the blocks, with scales",
            lambda m: _plain(m.effective_bits_blocks),
        ),
        Metric("paper-size", "MB by the paper's formula W b_w / 8", lambda m: _plain(m.paper.size / MB)),
        Metric(
            "memory-io",
            "Memory I/O, MB, by the paper's formula (W b_w + A b_a) / 8, 30 s of audio",
            lambda m: None if m.paper.memory_io is None else _plain(m.paper.memory_io / MB),
        ),
        Metric("bops", "Bit operations, % of 32/32, b_w b_a / 1024", lambda m: _plain(100 * m.paper.relative_bops)),
        Metric(
            "quantize-seconds",
            "Seconds of quantization",
            lambda m: None if m.quantize_seconds is None else _plain(m.quantize_seconds),
            digits=1,
        ),
        Metric(
            "peak-memory",
            "Peak memory of calibration, quantization and export, MB",
            lambda m: None if m.peak_memory is None else _plain(m.peak_memory / MB),
            digits=0,
        ),
    ]


def files(result: SweepResult) -> dict[str, str]:
    """The contents of every table file by its name; a metric that no cell has gets none."""
    written = {}
    for metric in metrics(result):
        if any(record.measured and metric.value(record.measured) for record in result.cells):
            written[f"{metric.name}.md"] = markdown(result, metric)
    return written


def markdown(result: SweepResult, metric: Metric) -> str:
    """Rows are models, methods and all other axes, columns settings; the model's float baseline comes first."""
    axes, settings, rows = _pivot(result)
    lines = [[*axes, FLOAT, *settings], ["---"] * (len(axes) + 1 + len(settings))]
    for values, cells in rows:
        lines.append([*values, *(_shown(cells.get(column), metric) for column in (FLOAT, *settings))])
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "".join(f"* {note}\n" for note in _notes(result))
    return f"# {metric.title}\n\n{text}\n\n{notes}"


def summary(result: SweepResult) -> str:
    """The sweep's README: how it was made, how far it is, the verdict against the reference, the best."""
    states = [record.state for record in result.cells]
    earlier = sum(record.earlier for record in result.cells)
    by_earlier_runs = f" ({earlier} of them by earlier runs, marked `earlier` in `results.jsonl`)" if earlier else ""
    lines = [
        f"# Sweep {result.name}",
        "",
        f"`{result.command}`",
        "",
        result.speech,
        "",
        f"{states.count('done')} cells done{by_earlier_runs}, {states.count('failed')} failed, "
        f"{states.count('pending')} pending; {result.created}. `results.jsonl` holds recipes, hashes, versions "
        "and all figures, a cell a line; `tables/` one table per metric; `plots/` word error rate against cost.",
        "",
        f"**Against {result.reference}.** {verdict(result)}",
        "",
        "| model | setting | best | WER % | rise (95 % interval) | bits | MB |",
        "|---|---|---|---|---|---|---|",
        *(_best_row(record) for record in best(result)),
        "",
    ]
    if failed := [record for record in result.cells if record.error]:
        lines += ["Failed:", "", *(f"* `{record.name}`: {record.error}" for record in failed), ""]
    return "\n".join(lines)


def verdict(result: SweepResult) -> str:
    """Whether a cell is worse than the reference method at the same setting by more than noise, and which."""
    compared = [(r.name, r.measured.against_reference) for r in result.cells if r.measured]
    differences = [(name, difference) for name, difference in compared if difference is not None]
    worse = [name for name, difference in differences if difference.is_worse]
    if not differences:
        return "Nothing to compare yet."
    if not worse:
        return f"No cell of {len(differences)} is worse by more than noise (95 % paired bootstrap)."
    return f"Worse by more than noise (95 % paired bootstrap), {len(worse)} of {len(differences)}: {', '.join(worse)}."


def best(result: SweepResult) -> list[Record]:
    """Of every model, setting and further axis the cell with the lowest pooled WER."""
    groups: dict[tuple[str, ...], list[tuple[float, int]]] = {}
    for index, record in enumerate(result.cells):
        if record.measured and record.values["method"] != FLOAT:
            key = tuple(value for axis, value in record.values.items() if axis != "method")
            groups.setdefault(key, []).append((record.measured.pooled.wer, index))
    return [result.cells[min(group)[1]] for group in groups.values()]


def _best_row(record: Record) -> str:
    assert record.measured is not None
    measured, values = record.measured, record.values
    setting = " ".join(value for axis, value in values.items() if axis not in ("model", "method"))
    rise = _show(_rise(measured), 2, signed=True) if measured.rise else ""
    figures = (
        f"{100 * measured.pooled.wer:.2f}",
        rise,
        f"{measured.effective_bits:.2f}",
        f"{measured.onnx_bytes / MB:.1f}",
    )
    return f"| {' | '.join((values['model'], setting, values['method'], *figures))} |"


def _pivot(result: SweepResult) -> tuple[list[str], list[str], list[tuple[list[str], dict[str, Record]]]]:
    axes = [axis for axis in result.axes if axis != "setting"]
    settings = list(dict.fromkeys(r.values["setting"] for r in result.cells if "setting" in r.values))
    baselines = {r.values["model"]: r for r in result.cells if r.values["method"] == FLOAT}
    rows: dict[tuple[str, ...], dict[str, Record]] = {}
    for record in result.cells:
        if record.values["method"] != FLOAT:
            row = rows.setdefault(tuple(record.values[axis] for axis in axes), {})
            row[record.values["setting"]] = record
            row[FLOAT] = baselines[record.values["model"]]
    return axes, settings, [(list(key), row) for key, row in rows.items()]


def _notes(result: SweepResult) -> list[str]:
    """onnxruntime's accuracy level at each setting: results at different levels are not comparable."""
    levels: dict[str, str] = {}
    for record in result.cells:
        if record.measured and "setting" in record.values:
            measured = record.measured
            levels[record.values["setting"]] = (
                f"accuracy level {measured.accuracy_level}, {measured.accuracy_level_note}"
            )
    return [f"{setting}: {note}" for setting, note in levels.items()]


def _shown(record: Record | None, metric: Metric) -> str:
    if record is None:
        return ""
    if record.measured is None:
        return record.state
    return _show(metric.value(record.measured), metric.digits, metric.signed)


def _show(value: Value | None, digits: int, signed: bool = False) -> str:
    if value is None:
        return ""
    form = f"{'+' if signed else ''}.{digits}f"
    text = format(value[0], form)
    return text if value[1] is None else f"{text} ({format(value[1][0], form)} to {format(value[1][1], form)})"


def _plain(value: float) -> Value:
    return value, None


def _points(difference: Difference | None) -> Value | None:
    if difference is None:
        return None
    return 100 * difference.value, (100 * difference.interval[0], 100 * difference.interval[1])


def _rise(measured: Measured) -> Value | None:
    return _points(measured.rise)


def _of_corpus(corpus: str) -> Callable[[Measured], Value | None]:
    return lambda m: _plain(100 * m.by_corpus[corpus].wer) if corpus in m.by_corpus else None
