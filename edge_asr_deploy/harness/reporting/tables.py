"""Prints measurements as tables."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from edge_asr_deploy.bundle.manifest import Layer, Manifest
from edge_asr_deploy.harness.evaluation.result import Interval, Measured, Result, Speed, WordErrors
from edge_asr_deploy.harness.evaluation.size import size_of
from edge_asr_deploy.harness.gate.report import BundleReport
from edge_asr_deploy.harness.inspection.cost import GraphCost
from edge_asr_deploy.harness.layout import FittedTable

if TYPE_CHECKING:
    # This import needs onnx, which boards lack.
    from edge_asr_deploy.harness.inspection.inspect import Inspection

MB = 1_000_000


def evaluation_table(result: Result) -> FittedTable:
    """Baseline and bundle side by side, or the bundle alone if there is no baseline."""
    environment, settings, normalizer = result.environment, result.settings, result.normalizer
    second = result.bundle.accuracy.leaderboard
    table = FittedTable(
        title=f"{result.bundle.name} ({result.bundle.model})",
        caption=f"{environment.cpu}, {settings.threads} threads, onnxruntime {environment.onnxruntime}, "
        f"accuracy level {settings.accuracy_level}, {settings.audio_context}; {normalizer.name} ({normalizer.version})"
        f"{f'; {second.name} ({second.version})' if second else ''}",
    )
    table.head("")
    columns = [result.bundle] if result.baseline is None else [result.baseline, result.bundle]
    for measured in columns:
        table.head(measured.name, right=True)
    if result.comparison:
        table.head("change", right=True)
    for label, cells, against in _rows(result, columns):
        table.row(label, *cells, *([against] if result.comparison else []))
    return table


def _rows(result: Result, columns: list[Measured]) -> Iterator[tuple[str, list[str], str]]:
    """For each row its label, one cell per bundle, and the change. The whole table has to fit 80 columns."""
    versus = result.comparison
    pooled = [column.accuracy.pooled for column in columns]
    yield (
        f"{result.rate} %, {_many(pooled[0].utterances, 'utterance')}",
        [f"{100 * errors.wer:.2f}" for errors in pooled],
        _change(pooled),
    )
    interval = _range(versus.interval, "+.2f") if versus else ""
    yield "  95 % interval", [_range(errors.interval, ".2f") for errors in pooled], interval
    for corpus, number in result.corpora.items():
        of_corpus = [column.accuracy.by_corpus[corpus] for column in columns]
        yield f"  {corpus} ({number})", [f"{100 * errors.wer:.2f}" for errors in of_corpus], _change(of_corpus)
    all_means = [column.accuracy.mean_of_corpora for column in columns]
    means = [mean for mean in all_means if mean is not None]
    if len(means) == len(columns):
        change = f"{100 * (means[-1] - means[0]):+.2f}" if versus else ""
        yield f"  mean of {len(result.corpora)} corpora", [f"{100 * mean:.2f}" for mean in means], change
    yield from _leaderboard_rows(result, columns)
    left_out = [(result.dropped, "no text"), (len(result.unreadable), "unreadable")]
    for number, why in left_out:
        if number:
            yield f"  left out: {why}", [str(number)] * len(columns), ""
    kinds = [f"{errors.substitutions} / {errors.deletions} / {errors.insertions}" for errors in pooled]
    yield "  subst. / del. / ins.", kinds, ""
    if versus:
        # Errors are counted after normalization; this row says how far the texts agree before it.
        yield "no worse, utterances", [""] * len(columns), f"{versus.no_worse_share:.1%}"
        yield "same text with case and punctuation", [""] * len(columns), f"{versus.same_text_share:.1%}"
    yield "runaway / empty outputs", [f"{c.accuracy.runaway} / {c.accuracy.empty}" for c in columns], ""
    yield "ONNX files, MB", [f"{c.size.onnx / MB:.1f}" for c in columns], f"{versus.size_ratio:.3f} x" if versus else ""
    yield "  encoder / decoder", [f"{c.size.encoder / MB:.1f} / {c.size.decoder / MB:.1f}" for c in columns], ""
    yield "other files, MB", [f"{column.size.other / MB:.1f}" for column in columns], ""
    if not any(column.speed for column in columns):
        return
    ratios = versus.speed if versus else None
    values: list[tuple[str, Callable[[Speed], str], float | None]] = [
        ("load, s", lambda speed: f"{speed.load_seconds:.2f}", ratios.load if ratios else None),
        ("real-time factor", lambda speed: f"{speed.rtf:.4f}", ratios.rtf if ratios else None),
        ("encoder, ms", lambda speed: f"{speed.encoder_ms.p50:.1f}", ratios.encoder if ratios else None),
        ("first token, ms", lambda speed: f"{speed.first_token_ms.p50:.1f}", ratios.first_token if ratios else None),
        ("per token, ms p50 / p99", _per_token, None),
        ("tokens per second", _tokens_per_second, ratios.tokens_per_second if ratios else None),
        ("peak memory, MB", lambda speed: f"{speed.peak_rss / MB:.0f}", ratios.peak_rss if ratios else None),
    ]
    for label, value, ratio in values:
        cells = [value(column.speed) if column.speed else "-" for column in columns]
        yield label, cells, "" if ratio is None else f"{ratio:.2f} x"


def _leaderboard_rows(result: Result, columns: list[Measured]) -> Iterator[tuple[str, list[str], str]]:
    """The second score, and the interval of its change."""
    scores = [column.accuracy.leaderboard for column in columns]
    pooled = [score.pooled for score in scores if score and score.pooled]
    if not pooled or len(pooled) < len(columns):
        return
    difference = result.comparison.leaderboard if result.comparison else None
    change = f"{100 * difference.wer_difference:+.2f}" if difference else ""
    yield "leaderboard WER %", [f"{100 * errors.wer:.2f}" for errors in pooled], change
    interval = _range(difference.interval, "+.2f") if difference else ""
    yield "  95 % interval", [_range(errors.interval, ".2f") for errors in pooled], interval


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _change(errors: list[WordErrors]) -> str:
    return f"{100 * (errors[-1].wer - errors[0].wer):+.2f}" if len(errors) > 1 else ""


def _range(interval: Interval, form: str) -> str:
    return " to ".join(format(100 * bound, form) for bound in interval)


def _per_token(speed: Speed) -> str:
    step = speed.per_token_ms
    return f"{step.p50:.2f} / {step.p99:.2f}" if step else "-"


def _tokens_per_second(speed: Speed) -> str:
    return f"{speed.tokens_per_second:.0f}" if speed.tokens_per_second else "-"


def inspection_tables(inspection: Inspection) -> list[FittedTable]:
    """Layers, a table for each component; layers summed by component; operators by file."""
    components: dict[str, list[Layer]] = defaultdict(list)
    for layer in inspection.layers:
        components[layer.component].append(layer)
    layers = [_layers(f"{inspection.name}: {name}", members) for name, members in components.items()]
    return [*layers, _components(inspection, components), _operators(inspection)]


def _layers(title: str, layers: list[Layer]) -> FittedTable:
    """The layers of a component. What all of them share stands below; the rest has one column, lest they be many."""
    stored = [_stored(layer) for layer in layers]
    different = [key for key in stored[0] if len({one[key] for one in stored}) > 1]
    shared = [value for key, value in stored[0].items() if key not in different and value]
    table = FittedTable(title=title, caption="; ".join([*shared, "errors are relative"]))
    table.head("layer")
    if different:
        table.head(different[0] if len(different) == 1 else "stored")
    for heading in ("shape", "bits", "kB", "error"):
        table.head(heading, right=True)
    for layer, one in zip(layers, stored, strict=True):
        table.row(
            # The component stands above, and every model is a `model`.
            re.sub(r"^(model\.)?((encoder|decoder)\.(?=layers\.))?", "", layer.name),
            *([", ".join(one[key] for key in different if one[key])] if different else []),
            "x".join(str(size) for size in layer.shape),
            "-" if layer.effective_bits is None else f"{layer.effective_bits:.2f}",
            f"{layer.bytes / 1000:.1f}",
            "-" if layer.error is None else f"{layer.error:.4f}",
        )
    return table


def _stored(layer: Layer) -> dict[str, str]:
    """How a layer is stored and computed, by attribute, in words that need no heading; empty where it has none."""
    return {
        "grid": f"{layer.bits} bits{_bits(layer).removeprefix(str(layer.bits))}",
        "group": "" if layer.group is None else f"group {_group(layer)}",
        "activations": layer.activations,
        "method": layer.method,
        "outliers": "" if layer.outliers is None else f"{layer.outliers / math.prod(layer.shape):.2%} outliers",
    }


def _components(inspection: Inspection, components: Mapping[str, list[Layer]]) -> FittedTable:
    table = FittedTable(title="bytes")
    for heading in ("component", "layers", "bits", "effective bits", "MB"):
        table.head(heading, right=heading != "component")
    for component, members in components.items():
        widths = ", ".join(sorted({_bits(layer) for layer in members}))
        megabytes = sum(layer.bytes for layer in members) / MB
        table.row(component, str(len(members)), widths, _effective_bits(members), f"{megabytes:.2f}")
    table.add_section()
    size = inspection.size
    for name, amount in (("encoder file", size.encoder), ("decoder file", size.decoder), ("other files", size.other)):
        table.row(name, "", "", "", f"{amount / MB:.2f}")
    return table


def _effective_bits(layers: list[Layer]) -> str:
    """Bits per weight over all layers, or `-` for a bundle from before they were recorded."""
    total_bits, total_weights = 0.0, 0
    for layer in layers:
        if layer.effective_bits is None:
            return "-"
        weights = math.prod(layer.shape)
        total_bits += layer.effective_bits * weights
        total_weights += weights
    return f"{total_bits / total_weights:.2f}"


def _operators(inspection: Inspection) -> FittedTable:
    table = FittedTable(title="operators after onnxruntime's optimization")
    table.head("operator")
    for name in inspection.operators:
        table.head(name, right=True)
    totals: dict[str, int] = defaultdict(int)
    for counts in inspection.operators.values():
        for kind, number in counts.items():
            totals[kind] += number
    for kind in sorted(totals, key=lambda kind: (-totals[kind], kind)):
        table.row(kind, *(str(counts.get(kind, 0)) for counts in inspection.operators.values()))
    return table


def _bits(layer: Layer) -> str:
    return str(layer.bits) + {True: " sym", False: " asym", None: ""}[layer.symmetric]


def _group(layer: Layer) -> str:
    if layer.group is None:
        return "-"
    return f"{layer.group} two-level" if layer.storage == "two-level" else str(layer.group)


def export_table(folder: Path, manifest: Manifest) -> FittedTable:
    """The parts that an export wrote, their widths and bytes, and the agreement of the graphs with PyTorch."""
    table = FittedTable(title=f"{folder}", caption=_proof(manifest))
    for heading in ("component", "matrices", "bits", "method", "MB"):
        table.head(heading, right=heading not in ("component", "method"))
    components: dict[str, list[Layer]] = defaultdict(list)
    for layer in manifest.layers:
        components[layer.component].append(layer)
    for component, members in components.items():
        widths = ", ".join(sorted({_bits(layer) for layer in members}))
        methods = ", ".join(sorted({layer.method for layer in members}))
        table.row(component, str(len(members)), widths, methods, f"{sum(x.bytes for x in members) / MB:.2f}")
    table.add_section()
    size = size_of(folder)
    for name, amount in (("encoder file", size.encoder), ("decoder file", size.decoder), ("other files", size.other)):
        table.row(name, "", "", "", f"{amount / MB:.2f}")
    return table


def _proof(manifest: Manifest) -> str:
    agreement = manifest.metrics.get("agreement_with_pytorch")
    if agreement is None:
        return "not proved on real speech, because none was available"
    # Bundles of earlier versions have the texts, and no lengths.
    clips = len(manifest.metrics.get("heard") or manifest.metrics["spoken"])
    return f"onnxruntime agrees with PyTorch on {agreement['tokens']:.1%} of the tokens of {clips} clips"


def cost_table(cost: GraphCost) -> FittedTable:
    """Operators of one run, sorted by multiply-accumulates. The bytes of weights are shown only as a sum."""
    table = FittedTable(title=cost.what)
    for heading in ("operator", "calls", "million MACs", "activations, MB"):
        table.head(heading, right=heading != "operator")
    for operator in cost.operators:
        moved = operator.activation_bytes / MB
        table.row(operator.kind, str(operator.calls), f"{operator.macs / 1e6:.2f}", f"{moved:.2f}")
    table.add_section()
    table.row("weights", "", "", f"{cost.weight_bytes / MB:.2f}")
    calls = sum(operator.calls for operator in cost.operators)
    table.row("all", str(calls), f"{cost.macs / 1e6:.2f}", f"{cost.bytes_moved / MB:.2f}")
    return table


def checks_table(report: BundleReport) -> FittedTable:
    """The gate's verdicts, with the note of each check that did not pass, better limits, and what stays unseen."""
    table = FittedTable(title=report.bundle, caption=f"against {report.baseline}")
    for heading in ("check", "measured", "limit", "verdict"):
        table.head(heading)
    styles = {"passed": "green", "failed": "red", "not measured": "yellow"}
    for check in report.checks:
        style = styles[check.verdict]
        table.row(check.name, check.measured, check.limit, Text(check.verdict, style=style))
        note = "" if check.verdict == "passed" else check.note
        for remark in (note, check.slack, check.warning):
            if remark:
                table.row("", Text(remark, style="dim"))
    return table
