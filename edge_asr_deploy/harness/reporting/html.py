"""Results as one HTML page that needs nothing else: no script, no font, no picture from anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

from edge_asr_deploy.corpora.normalize import normalizer
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.files import write_output
from edge_asr_deploy.harness.evaluation.result import Measured, Percentiles, Result, Speed, WordErrors
from edge_asr_deploy.harness.reporting.charts import Chart, Mark, chart
from edge_asr_deploy.harness.reporting.differences import Difference, worst
from edge_asr_deploy.harness.reporting.durations import by_duration
from edge_asr_deploy.harness.reporting.summary import read_results

MB = 1_000_000
NOT_MEASURED = "not measured"
# A rate above this is a runaway model: it would squeeze all others to the left edge.
MOST_WER = 100.0


@dataclass(frozen=True)
class Entry:
    """A bundle on the page. Of results that share a baseline, only the first brings it along, except for speed."""

    label: str
    is_float: bool
    measured: Measured
    result: Result


def write_report(paths: Sequence[Path], output: Path, number: int) -> int:
    """Write the page of these results, `number` of the worst utterances of each; how many bytes it has.

    UserError, before anything is written, for a file that is no result, for a folder that is not there, and without
    jinja2.
    """
    if output.is_dir() or not output.parent.is_dir():
        raise UserError("--output", output, "its folder does not exist, or it is one itself; name an .html file")
    data = page(read_results(paths), number).encode()
    write_output("--output", output, data)
    return len(data)


def page(results: Sequence[Result], number: int) -> str:
    """The page. UserError without jinja2, and when a result names a normalizer that is not known."""
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
        "results": [(result, _label(result.bundle, results)) for result in results],
        "entries": entries,
        "sizes": _sizes(entries),
        "by_corpus": _by_corpus(entries),
        "by_duration": _by_duration(entries),
        "latency": _latency(timed),
        "timed": timed,
        "differences": [(_label(result.bundle, results), _differences(result, number)) for result in results],
        "facts": _facts(results),
        "not_measured": NOT_MEASURED,
    }
    return environment.get_template("report.html").render(context)


def _entries(results: Sequence[Result]) -> tuple[list[Entry], list[Entry]]:
    """Bundles behind their baselines: for what a bundle is, each baseline once; for speed, once a run."""
    once, all_runs, shown = [], [], set()
    for result in results:
        baseline = result.baseline
        if baseline is not None:
            entry = Entry(baseline.name, True, baseline, result)
            all_runs.append(entry)
            key = (baseline.hash, baseline.accuracy.pooled)
            if key not in shown:
                shown.add(key)
                once.append(entry)
        is_float = baseline is None and result.bundle.recipe.endswith("-float")
        entry = Entry(_label(result.bundle, results), is_float, result.bundle, result)
        once.append(entry)
        all_runs.append(entry)
    return once, all_runs


def _label(measured: Measured, results: Sequence[Result]) -> str:
    """The bundle's name, numbered where several results are of bundles that are called the same."""
    same = [result.bundle for result in results if result.bundle.name == measured.name]
    place = next(index for index, bundle in enumerate(same) if bundle is measured)
    return measured.name if place == 0 else f"{measured.name} ({place + 1})"


def _sizes(entries: Sequence[Entry]) -> list[tuple[Entry, list[tuple[str, float]]]]:
    """Parts of each bundle in percent of the largest bundle."""
    largest = max([entry.measured.size.total for entry in entries] + [1])
    parts = []
    for entry in entries:
        size = entry.measured.size
        known = {"encoder": size.encoder, "decoder": size.decoder}
        known |= {"other graphs": size.onnx - size.encoder - size.decoder, "other files": size.other}
        parts.append((entry, [(name, round(100 * part / largest, 3)) for name, part in known.items() if part > 0]))
    return parts


def _by_corpus(entries: Sequence[Entry]) -> Chart:
    corpora = list(dict.fromkeys(name for entry in entries for name in entry.measured.accuracy.by_corpus))
    groups = [("all, pooled", [_dot(entry, entry.measured.accuracy.pooled) for entry in entries])]
    if len(corpora) > 1:
        groups.append(("mean of the corpora", [_mean(entry) for entry in entries]))
        by_name = {name: [_dot(e, e.measured.accuracy.by_corpus.get(name)) for e in entries] for name in corpora}
        groups += by_name.items()
    return chart(groups, " %", MOST_WER)


def _by_duration(entries: Sequence[Entry]) -> Chart:
    buckets = [by_duration(entry.measured.accuracy.rows, entry.result.settings.seed) for entry in entries]
    names = sorted({name for bucket in buckets for name in bucket}, key=lambda name: float(name.split()[0]))
    pairs = list(zip(entries, buckets, strict=True))
    return chart([(name, [_dot(e, bucket.get(name)) for e, bucket in pairs]) for name in names], " %", MOST_WER)


def _dot(entry: Entry, errors: WordErrors | None) -> Mark:
    if errors is None:
        return Mark(entry.label, entry.is_float, None, text=NOT_MEASURED)
    low, high = (100 * bound for bound in errors.interval)
    clips = f"{errors.utterances} clip{'' if errors.utterances == 1 else 's'}"
    text = f"{100 * errors.wer:.2f} % ({low:.2f} to {high:.2f}; {clips})"
    return Mark(entry.label, entry.is_float, 100 * errors.wer, low, high, text)


def _mean(entry: Entry) -> Mark:
    """Also of results from before the mean was part of them."""
    rates = [errors.wer for errors in entry.measured.accuracy.by_corpus.values()]
    if not rates:
        return Mark(entry.label, entry.is_float, None, text=NOT_MEASURED)
    mean = 100 * fmean(rates)
    return Mark(entry.label, entry.is_float, mean, text=f"{mean:.2f} % ({len(rates)} corpora)")


def _latency(entries: Sequence[Entry]) -> list[tuple[str, Chart]]:
    """A chart of its own for each time: a token takes a hundredth of what the encoder takes."""
    times: dict[str, Callable[[Speed], Percentiles | None]] = {
        "Encoder, per clip": lambda speed: speed.encoder_ms,
        "First token": lambda speed: speed.first_token_ms,
        "Per token": lambda speed: speed.per_token_ms,
    }
    return [(name, chart([("", [_bar(e, time) for e in entries])], " ms")) for name, time in times.items()]


def _bar(entry: Entry, time: Callable[[Speed], Percentiles | None]) -> Mark:
    speed = entry.measured.speed
    found = time(speed) if speed is not None else None
    if found is None:
        return Mark(entry.label, entry.is_float, None, text=NOT_MEASURED)
    text = f"{found.p50:.3g} / {found.p90:.3g} ms"
    return Mark(entry.label, entry.is_float, found.p50, found.p50, found.p90, text)


def _differences(result: Result, number: int) -> list[Difference]:
    return worst(result, normalizer(result.normalizer.name), number)


def _facts(results: Sequence[Result]) -> list[tuple[str, list[object]]]:
    """What each result was made of and under which conditions; None: not measured."""
    facts: dict[str, Callable[[Result], object]] = {
        "measured": lambda result: result.created,
        "model": lambda result: result.bundle.model,
        "recipe": lambda result: result.bundle.recipe,
        "bundle hash": lambda result: result.bundle.hash,
        "sha256 of the source weights": lambda result: result.bundle.model_sha256,
        "float baseline": lambda result: result.baseline.name if result.baseline else None,
        "speech": lambda result: result.speech,
        "dropped, no reference": lambda result: result.dropped,
        "normalizer": lambda result: f"{result.normalizer.name} ({result.normalizer.version})",
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


def _percent(fraction: float | None) -> str:
    return NOT_MEASURED if fraction is None else f"{100 * fraction:.2f} %"


def _signed(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"


def _mb(number: int) -> str:
    return f"{number / MB:.1f}"


def _ratio(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.2f} ×"
