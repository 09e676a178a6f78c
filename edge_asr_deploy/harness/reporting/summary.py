"""Writes results as one Markdown table, such as the one in the README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.evaluation.leaderboard import with_leaderboard
from edge_asr_deploy.harness.evaluation.result import Comparison, Difference, Measured, Result, SpeedRatios
from edge_asr_deploy.printing import markdown_text

MB = 1_000_000
RATE = "WER %"
RISE = "rise (95 % interval)"
LEADERBOARD = "leaderboard WER %"
HEADINGS = (
    "model",
    "bundle",
    RATE,
    RISE,
    "MB",
    "RTF / float",
    "tokens/s / float",
    "peak memory / float",
)


def read_results(paths: Sequence[Path], leaderboard: bool = False) -> list[Result]:
    """Read results that `edge-deploy evaluate --output` wrote; with `leaderboard` they get the second score.

    UserError for a file that is not such a result, and as `with_leaderboard`.
    """
    results = []
    for path in paths:
        try:
            results.append(Result.model_validate_json(path.read_bytes()))
        except OSError as error:
            raise UserError("result", path, f"cannot be read ({error.strerror}); check the path") from None
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            reason = f"{place}: {first['msg']}" if place else first["msg"]
            remedy = f"is not a result of `edge-deploy evaluate --output` ({reason}); evaluate the bundle again"
            raise UserError("result", path, remedy) from None
    return [with_leaderboard(result) for result in results] if leaderboard else results


def markdown(results: Sequence[Result]) -> str:
    """A table with one row per bundle, below the float bundle that it is compared with.

    Results of the same speech and the same float bundle share its row; a column names the speech where there are
    several. Speed and memory are ratios to the baseline of the same run, because speeds of different runs cannot be
    compared.
    """
    groups: dict[tuple[object, tuple[object, ...]], list[Result]] = {}
    for result in results:
        groups.setdefault((_baseline_of(result), result.judged_on), []).append(result)
    speeches = list(dict.fromkeys(result.judged_on for result in results))
    rows: list[tuple[str, ...]] = []
    second = any(result.bundle.accuracy.leaderboard for result in results)
    for (_, judged_on), members in groups.items():
        first = members[0]
        speech = (_speech(first, speeches.index(judged_on)),) if len(speeches) > 1 else ()
        if first.baseline is not None:
            scores = _second(first.baseline, None) if second else ()
            rows.append((*speech, *_row(first.baseline, "float", "", None), *scores))
        for result in members:
            name = result.bundle.recipe.split("-", 1)[-1]
            ratios = result.comparison.speed if result.comparison else None
            scores = _second(result.bundle, result.comparison) if second else ()
            rows.append((*speech, *_row(result.bundle, name, _rise(result.comparison), ratios), *scores))
    rates = " or ".join(dict.fromkeys(result.rate for result in results))
    headings = tuple(f"{rates} %" if heading == RATE else heading for heading in HEADINGS)
    headings = ("speech", *headings) if len(speeches) > 1 else headings
    if second:
        headings = (*headings, LEADERBOARD, RISE)
    lines = [headings, ("---",) * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _baseline_of(result: Result) -> tuple[object, ...] | None:
    """What makes two float rows the same: the bundle, and what it was measured to do."""
    return None if result.baseline is None else (result.baseline.hash, result.baseline.accuracy.pooled)


def _speech(result: Result, number: int) -> str:
    """The speech in a few words. `number` parts speech of the same description from other speech."""
    corpora = ", ".join(f"{name} ({count})" for name, count in result.corpora.items())
    return f"{number + 1}: {corpora}, {result.rate}"


def _row(measured: Measured, name: str, rise: str, ratios: SpeedRatios | None) -> tuple[str, ...]:
    speed = ("", "", "")
    if ratios is not None:
        decoded = ratios.tokens_per_second
        speed = (f"{ratios.rtf:.2f}", f"{decoded:.2f}" if decoded else "", f"{ratios.peak_rss:.2f}")
    wer = f"{100 * measured.accuracy.pooled.wer:.2f}"
    return (markdown_text(measured.model), markdown_text(name), wer, rise, f"{measured.size.onnx / MB:.1f}", *speed)


def _second(measured: Measured, comparison: Comparison | None) -> tuple[str, str]:
    """The second score and its rise."""
    score = measured.accuracy.leaderboard
    wer = f"{100 * score.pooled.wer:.2f}" if score and score.pooled else ""
    return wer, _rise(comparison.leaderboard if comparison else None)


def _rise(comparison: Comparison | Difference | None) -> str:
    if comparison is None:
        return ""
    low, high = (100 * bound for bound in comparison.interval)
    return f"{100 * comparison.wer_difference:+.2f} ({low:+.2f} to {high:+.2f})"
