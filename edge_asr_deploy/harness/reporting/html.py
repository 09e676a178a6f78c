"""Writes results as one self-contained HTML page: without scripts, fonts or pictures from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

from edge_asr_deploy.corpora.normalize import normalizer
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.files import require_writable, write_output
from edge_asr_deploy.harness.evaluation.result import Measured, Percentiles, Result, Speed, WordErrors
from edge_asr_deploy.harness.layout import plain
from edge_asr_deploy.harness.reporting.charts import Chart, Mark, chart
from edge_asr_deploy.harness.reporting.differences import Difference, worst
from edge_asr_deploy.harness.reporting.durations import BUCKETS, by_duration
from edge_asr_deploy.harness.reporting.summary import read_results
from edge_asr_deploy.printing import escape_controls

MB = 1_000_000
NOT_MEASURED = "not measured"
# In percent. The scale ends here, because the rate of a runaway model would squeeze all others to the left edge.
MOST_WER = 100.0


@dataclass(frozen=True)
class Entry:
    """A bundle on the page. A baseline that several results share is one entry; for speed, it is one entry per run."""

    label: str
    is_float: bool
    measured: Measured
    result: Result


def write_report(paths: Sequence[Path], output: Path, number: int, leaderboard: bool = False) -> int:
    """Write the page for these results, with `number` of the worst utterances of each. Returns the page's bytes.

    With `leaderboard` the results get the second score (`evaluation.leaderboard`).

    UserError, before anything is written, for a file that is not a result, a missing folder, and a missing jinja2.
    """
    require_writable("--output", output)
    data = page(read_results(paths, leaderboard), number).encode()
    write_output("--output", output, data)
    return len(data)


def page(results: Sequence[Result], number: int) -> str:
    """The page as text. UserError when jinja2 is missing, and when a result names an unknown normalizer."""
    if find_spec("jinja2") is None:
        raise UserError("report", "jinja2", 'is not installed; pip install "edge-asr-deploy[report]"')
    import jinja2

    loader = jinja2.PackageLoader("edge_asr_deploy", "harness/reporting/templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=_percent, signed=_signed, mb=_mb, ratio=_ratio)
    entries, timed = _entries(results)
    context: dict[str, Any] = {
        "rate": " or ".join(dict.fromkeys(result.rate for result in results)),
        "results": [(result, _label(result.bundle, results)) for result in results],
        "entries": entries,
        "second": [entry for entry in entries if entry.measured.accuracy.leaderboard],
        "sizes": _sizes(entries),
        "by_corpus": _by_corpus(entries),
        "by_duration": _by_duration(entries),
        "latency": _latency(timed),
        "timed": timed,
        "differences": [
            (_label(result.bundle, results), result.rate, _differences(result, number)) for result in results
        ],
        "facts": _facts(results),
        "not_measured": NOT_MEASURED,
    }
    rendered = environment.get_template("report.html").render(context)
    return "\n".join(map(escape_controls, rendered.split("\n")))


def _entries(results: Sequence[Result]) -> tuple[list[Entry], list[Entry]]:
    """Bundles behind their baselines, as two lists: each baseline once, and (for speed) each baseline once per run."""
    once, all_runs = [], []
    labels: dict[tuple[object, ...], tuple[str, str]] = {}
    for result in results:
        baseline = result.baseline
        if baseline is not None:
            key = (baseline.hash, baseline.accuracy.pooled, result.judged_on)
            is_new = key not in labels
            same = sum(other == baseline.name for other, _ in labels.values())
            labels.setdefault(key, (baseline.name, f" ({same + 1})" if same else ""))
            entry = Entry("".join(labels[key]), True, baseline, result)
            all_runs.append(entry)
            if is_new:
                once.append(entry)
        is_float = baseline is None and result.bundle.recipe.endswith("-float")
        entry = Entry(_label(result.bundle, results), is_float, result.bundle, result)
        once.append(entry)
        all_runs.append(entry)
    return once, all_runs


def _label(measured: Measured, results: Sequence[Result]) -> str:
    """The bundle's name, with a number if bundles of several results have the same name."""
    same = [result.bundle for result in results if result.bundle.name == measured.name]
    place = next(index for index, bundle in enumerate(same) if bundle is measured)
    return measured.name if place == 0 else f"{measured.name} ({place + 1})"


def _sizes(entries: Sequence[Entry]) -> list[tuple[Entry, list[tuple[str, float]]]]:
    """The parts of each bundle, in percent of the largest bundle."""
    largest = max([entry.measured.size.total for entry in entries] + [1])
    parts = []
    for entry in entries:
        size = entry.measured.size
        sizes = {
            "encoder": size.encoder,
            "decoder": size.decoder,
            "other graphs": size.onnx - size.encoder - size.decoder,
            "other files": size.other,
        }
        shares = {name: round(100 * part / largest, 3) for name, part in sizes.items() if part > 0}
        parts.append((entry, list(shares.items())))
    return parts


def _by_corpus(entries: Sequence[Entry]) -> Chart:
    corpora = list(dict.fromkeys(name for entry in entries for name in entry.measured.accuracy.by_corpus))
    groups = [("all, pooled", [_dot(entry, entry.measured.accuracy.pooled) for entry in entries])]
    if len(corpora) > 1:
        groups.append(("mean of the corpora", [_mean(entry) for entry in entries]))
        for name in corpora:
            groups.append((name, [_dot(entry, entry.measured.accuracy.by_corpus.get(name)) for entry in entries]))
    return chart(groups, " %", MOST_WER)


def _by_duration(entries: Sequence[Entry]) -> Chart:
    errors = [by_duration(entry.measured.accuracy.rows, entry.result.settings.seed) for entry in entries]
    groups = []
    for name in BUCKETS:
        if any(name in by_name for by_name in errors):
            marks = [_dot(entry, by_name.get(name)) for entry, by_name in zip(entries, errors, strict=True)]
            groups.append((name, marks))
    return chart(groups, " %", MOST_WER)


def _dot(entry: Entry, errors: WordErrors | None) -> Mark:
    if errors is None:
        return Mark(entry.label, entry.is_float, None, text=NOT_MEASURED)
    low, high = (100 * bound for bound in errors.interval)
    clips = f"{errors.utterances} clip{'' if errors.utterances == 1 else 's'}"
    # WER is what people take a rate for.
    rate = "" if entry.result.rate == "WER" else f" {entry.result.rate}"
    text = f"{100 * errors.wer:.2f} %{rate} ({low:.2f} to {high:.2f}; {clips})"
    return Mark(entry.label, entry.is_float, 100 * errors.wer, low, high, text)


def _mean(entry: Entry) -> Mark:
    """The mean over corpora, computed here because results of older versions lack it."""
    rates = [errors.wer for errors in entry.measured.accuracy.by_corpus.values()]
    if not rates:
        return Mark(entry.label, entry.is_float, None, text=NOT_MEASURED)
    mean = 100 * fmean(rates)
    return Mark(
        entry.label,
        entry.is_float,
        mean,
        text=f"{mean:.2f} % ({len(rates)} {'corpus' if len(rates) == 1 else 'corpora'})",
    )


def _latency(entries: Sequence[Entry]) -> list[tuple[str, Chart]]:
    """One chart for each kind of time, because a token takes a hundredth of the encoder's time."""
    times: dict[str, Callable[[Speed], Percentiles | None]] = {
        "Encoder, per clip": lambda speed: speed.encoder_ms,
        "First token": lambda speed: speed.first_token_ms,
        "Per token": lambda speed: speed.per_token_ms,
    }
    charts = []
    for name, time in times.items():
        marks = [_bar(entry, time) for entry in entries]
        charts.append((name, chart([("", marks)], " ms")))
    return charts


def _bar(entry: Entry, time: Callable[[Speed], Percentiles | None]) -> Mark:
    speed = entry.measured.speed
    percentiles = time(speed) if speed is not None else None
    if percentiles is None:
        return Mark(entry.label, entry.is_float, None, text=NOT_MEASURED)
    text = f"{plain(percentiles.p50)} / {plain(percentiles.p90)} ms"
    return Mark(entry.label, entry.is_float, percentiles.p50, percentiles.p50, percentiles.p90, text)


def _differences(result: Result, number: int) -> list[Difference]:
    return worst(result, normalizer(result.normalizer.name), number)


def _facts(results: Sequence[Result]) -> list[tuple[str, list[object]]]:
    """How and under which conditions each result was measured. None stands for "not measured"."""
    facts: dict[str, Callable[[Result], object]] = {
        "measured": lambda result: result.created,
        "model": lambda result: result.bundle.model,
        "recipe": lambda result: result.bundle.recipe,
        "bundle hash": lambda result: result.bundle.hash,
        "sha256 of the source weights": lambda result: result.bundle.model_sha256,
        "float baseline": lambda result: result.baseline.name if result.baseline else None,
        "speech": lambda result: result.speech,
        "left out, no reference text": lambda result: result.dropped,
        "left out, unreadable": lambda result: len(result.unreadable),
        "rate": lambda result: result.rate,
        "normalizer": lambda result: f"{result.normalizer.name} ({result.normalizer.version})",
        "second score": lambda result: _second(result.bundle),
        "language": lambda result: result.settings.language,
        "threads": lambda result: result.settings.threads,
        "accuracy level": lambda result: f"{result.settings.accuracy_level}: {result.settings.accuracy_level_note}",
        "audio context": lambda result: result.settings.audio_context,
        "seed": lambda result: result.settings.seed,
        "CPU": lambda result: result.environment.cpu,
        "machine": lambda result: result.environment.machine,
        "cores": lambda result: result.environment.cores,
        "system": lambda result: result.environment.system,
        "governor": lambda result: result.environment.governor,
        "temperature at the start, °C": lambda result: result.environment.temperature,
        "Python": lambda result: result.environment.python,
        "onnxruntime": lambda result: result.environment.onnxruntime,
        "edge-asr-deploy": lambda result: result.environment.edge_asr_deploy,
    }
    return [(name, [value(result) for result in results]) for name, value in facts.items()]


def _second(measured: Measured) -> str | None:
    score = measured.accuracy.leaderboard
    return f"{score.name} ({score.version})" if score else None


def _percent(fraction: float | None) -> str:
    return NOT_MEASURED if fraction is None else f"{100 * fraction:.2f} %"


def _signed(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"


def _mb(number: int) -> str:
    return f"{number / MB:.1f}"


def _ratio(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.2f} ×"
