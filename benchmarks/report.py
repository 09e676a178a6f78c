"""The stored measurements as Markdown tables."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.cells import OURS
from benchmarks.clips import BANDS, BEYOND, LONG
from benchmarks.figures import Accuracy, Summary, accuracy, summaries
from benchmarks.goals import Row, Verdict, judge, overall, spread_of
from benchmarks.store import read
from edge_asr_deploy.corpora.normalize import normalizer
from edge_asr_deploy.errors import UserError

# What stands above this line of a report is written by hand and kept.
MARK = "<!-- Below: `make bench-peers`. -->"
# Which build of whisper.cpp was timed (benchmarks.compiled).
BUILD = "whisper-cpp-build.txt"
_MARKS = {"met": "met", "missed": "**missed**", "less accurate": "less accurate", "not measured": "not measured"}
PARTS = ("features", "encoder", "first_token", "per_token", "rest", "tokens")


def report(timing: Path, wer: Path, output: Path | None) -> str:
    """The tables; with `output` they replace what stands there below `MARK`, and figures go to a .json beside it.

    UserError when nothing was measured, or the file cannot be written.
    """
    document = read(timing)
    head = document["head"]
    found = summaries(document["records"].values(), head["clips"])
    heard = _accuracy(wer)
    rows = judge(found, heard)
    models = list(dict.fromkeys(one.model for one in found))
    text = "\n\n".join(
        [
            _about(head, found, timing.with_name(BUILD)),
            "## Against the goals",
            goal_table(rows),
            *(part for model in models for part in _model(model, found, heard)),
            *_problems(found),
        ]
    )
    if output is not None:
        _write(output, text, {"head": head, "summaries": [_figures(one, heard) for one in found]})
    return text


def goal_table(rows: Sequence[Row]) -> str:
    """A row per goal, model and number of threads; a cell per bundle of ours."""
    names = list(dict.fromkeys(verdict.name for row in rows for verdict in row.ours))
    lines = []
    for row in rows:
        of = {verdict.name: verdict for verdict in row.ours}
        best = f"{row.best[0]}: {_value(row, row.best[1])}" if row.best else "-"
        threads = str(row.threads) if row.goal.every_count else "any"
        limit = f"<= {row.goal.limit:g}{f' {row.goal.unit}' if not row.goal.rivals and row.goal.unit else ''}"
        lines.append([row.goal.title, row.model, threads, limit, best, *(_cell(row, of.get(name)) for name in names)])
    return table(["", "model", "threads", "goal", "best rival", *(f"ours, {name}" for name in names)], lines)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(row: Row, verdict: Verdict | None) -> str:
    if verdict is None or verdict.score is None:
        return "not measured"
    doubt = " (WER not measured)" if verdict.rise is None else ""
    shown = f"{verdict.score:.2f}" + (f" ({_value(row, verdict.value)})" if row.goal.rivals else "")
    rise = f", WER {verdict.rise:+.2f}" if verdict.state == "less accurate" else ""
    return f"{shown} {_MARKS[verdict.state]}{rise}{doubt}"


def _value(row: Row, value: float | None) -> str:
    return "-" if value is None else f"{value * row.goal.scale:.3g} {row.goal.unit}".strip()


def _about(head: Mapping[str, Any], found: Sequence[Summary], build: Path) -> str:
    compiled = f" whisper.cpp is {build.read_text().strip()}." if build.is_file() else ""
    machine, spread = head["machine"], spread_of(found)
    clips = ", ".join(f"{clip['id']} ({clip['seconds']:.1f} s)" for clip in head["clips"])
    return (
        f"Reported {date.today().isoformat()}. {machine['cores']} cores, {machine['machine']}"
        f" ({', '.join(machine['flags'])}). Clips: {clips}. Median spread of a clip's times over rounds,"
        f" (largest - smallest) / median: {_number(spread)}.{compiled}"
    )


def _model(model: str, found: Sequence[Summary], heard: Accuracy) -> list[str]:
    parts = [f"## {model}"]
    bands = [*BANDS, BEYOND, LONG]
    header = ["", "MB", "load 1st, later (s)", "RSS 1st, later (MB)", *(f"RTF {band}" for band in bands)]
    header += ["/ best", "cores", "spread", "rounds", "WER", "rise", f"WER {LONG}"]
    for threads in dict.fromkeys(one.threads for one in found if one.model == model):
        here = [one for one in found if (one.model, one.threads) == (model, threads) and one.seconds]
        here.sort(key=lambda one: sum(one.rtf.get(band, 0.0) for band in BANDS) or float("inf"))
        parts += [f"{threads} thread{'s' if threads > 1 else ''}:"]
        parts += [table(header, [_timing(one, bands, found, heard) for one in here])]
    if own := [one for one in found if one.model == model and one.rival == OURS and one.parts]:
        parts += ["Ours by part, medians in ms: features, encoder and first token per window, later tokens each."]
        header = ["", "threads", "band", "features", "encoder", "first token", "per token", "rest", "tokens", "floor"]
        rows = [
            [one.name, str(one.threads), band, *(f"{values[name]:.3g}" for name in PARTS), _floor(one)]
            for one in own
            for band, values in one.parts.items()
        ]
        parts += [table(header, rows)]
    return parts


def _floor(one: Summary) -> str:
    if "bandwidth" not in one.facts:
        return "-"
    size, speed = one.facts["step_bytes"], one.facts["bandwidth"]
    return f"{1000 * size / speed:.2f} ({size / 1e6:.1f} MB at {speed / 1e9:.1f} GB/s)"


def _timing(one: Summary, bands: Sequence[str], found: Sequence[Summary], heard: Accuracy) -> list[str]:
    loads = f"{one.loads[0]:.2f}, {_number(one.second_load)}"
    return [
        one.title if one.rival != OURS else f"**{one.title}**",
        f"{(one.bytes or 0) / 1e6:.1f}",
        loads,
        f"{one.first_rss / 1e6:.0f}, {one.rss / 1e6:.0f}" if one.first_rss and one.rss else "-",
        *(_number(one.rtf.get(band), 4) for band in bands),
        _number(overall(one, found, heard)),
        _number(one.cores),
        _number(one.spread),
        str(one.rounds),
        _number(heard.rate(one.key)),
        "-" if (rise := heard.rise(one.key)) is None else f"{rise:+.2f}",
        _number(one.long_rate),
    ]


def _problems(found: Sequence[Summary]) -> list[str]:
    rows = [[one.model, str(one.threads), one.title, one.problem] for one in found if one.problem]
    return ["## Not run, or failed", table(["model", "threads", "", "why"], rows)] if rows else []


def _accuracy(path: Path) -> Accuracy:
    if not path.exists():
        return Accuracy({})
    document = read(path)
    texts = {clip["id"]: clip["text"] for clip in document["head"]["clips"]}
    return accuracy(document["records"].values(), texts, normalizer("whisper-english"))


def _figures(one: Summary, heard: Accuracy) -> dict[str, Any]:
    return asdict(one) | {"second_load": one.second_load, "wer": heard.rate(one.key), "rise": heard.rise(one.key)}


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _write(output: Path, text: str, figures: dict[str, Any]) -> None:
    by_hand = output.read_text(encoding="utf-8").partition(MARK)[0] if output.exists() else ""
    documents = {
        output: f"{by_hand}{MARK}\n\n{text}\n",
        output.with_suffix(".json"): json.dumps(figures, indent=1, ensure_ascii=False) + "\n",
    }
    for path, content in documents.items():
        partial = path.with_name(f".{path.name}.partial")
        try:
            partial.write_text(content, encoding="utf-8")
            os.replace(partial, path)
        except OSError as error:
            raise UserError("--output", path, f"cannot be written ({error.strerror})") from None
