"""The goals: what is compared with the best rival, how far ours may be from it, and whether it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from benchmarks.cells import OURS
from benchmarks.clips import BANDS, LONG
from benchmarks.figures import TOLERANCE, Accuracy, Summary

# Points of word error rate on the long audio above the best of all, forty words: more than numbers, names and cuts
# explain.
DEAF = 5.0
State = Literal["met", "missed", "less accurate", "not measured"]
SHORT, MIDDLE, WINDOW = BANDS


@dataclass(frozen=True)
class Goal:
    """`value` of ours over that of the best rival must be at most `limit`; without `rivals` the value itself.

    `models`: names start with it. `unit` and `scale` are for people. `every_count`: it depends on the thread count.
    """

    title: str
    limit: float
    value: Callable[[Summary], float | None]
    models: str = ""
    rivals: bool = True
    unit: str = ""
    scale: float = 1.0
    every_count: bool = True


def _rtf(band: str) -> Callable[[Summary], float | None]:
    return lambda one: one.rtf.get(band)


def _steps(one: Summary) -> float | None:
    """A decoder step on sentences, as a multiple of the time that reading its bytes takes."""
    if MIDDLE not in one.parts or "bandwidth" not in one.facts:
        return None
    floor = one.facts["step_bytes"] / one.facts["bandwidth"]
    return float(one.parts[MIDDLE]["per_token"] / 1000 / floor)


GOALS = (
    Goal(f"RTF, {SHORT}", 0.15, _rtf(SHORT), "whisper"),
    Goal(f"RTF, {MIDDLE}", 0.25, _rtf(MIDDLE), "whisper"),
    Goal(f"RTF, {WINDOW}", 0.40, _rtf(WINDOW), "whisper"),
    Goal(f"RTF, {LONG}", 0.40, _rtf(LONG), "whisper"),
    *(Goal(f"RTF, {band}", 0.45, _rtf(band), "moonshine") for band in BANDS),
    Goal("model files", 0.75, lambda one: one.bytes, unit="MB", scale=1e-6, every_count=False),
    Goal("peak memory", 1.00, lambda one: one.rss, unit="MB", scale=1e-6),
    Goal("load, second start", 0.10, lambda one: one.second_load, "whisper-tiny.en", rivals=False, unit="s"),
    Goal("decoder step / reading its bytes", 2.0, _steps, "whisper-tiny.en", rivals=False),
)


@dataclass(frozen=True)
class Verdict:
    """One of our configurations against a goal. `score`: the ratio, or the value where no rival is asked."""

    name: str
    state: State
    score: float | None = None
    value: float | None = None
    rise: float | None = None


@dataclass(frozen=True)
class Row:
    """A goal for one model at one number of threads. `best`: the best rival and its value."""

    goal: Goal
    model: str
    threads: int
    best: tuple[str, float] | None
    ours: tuple[Verdict, ...]


def is_accurate(one: Summary, accuracy: Accuracy, summaries: Sequence[Summary]) -> bool:
    """Within 0.3 points of float; where that was not measured, the benefit of the doubt.

    In any case it must have heard the long audio, at whatever number of threads: not fall into loops, nor lose lines.
    """
    rates = {
        (other.rival, other.name): other.long_rate
        for other in summaries
        if other.model == one.model and other.long_rate is not None
    }
    rate = rates.get((one.rival, one.name))
    if rate is not None and rate > min(rates.values()) + DEAF:
        return False
    rise = accuracy.rise(one.key)
    return rise is None or rise <= TOLERANCE


def best_rival(
    goal: Goal, model: str, threads: int, summaries: Sequence[Summary], accuracy: Accuracy
) -> tuple[str, float] | None:
    """The rival of least value among those that are as accurate as float."""
    candidates = [
        (value, one.title)
        for one in summaries
        if (one.model, one.threads) == (model, threads)
        and one.rival != OURS
        and is_accurate(one, accuracy, summaries)
        and (value := goal.value(one)) is not None
    ]
    if not candidates:
        return None
    value, title = min(candidates)
    return title, value


def judge(summaries: Sequence[Summary], accuracy: Accuracy) -> list[Row]:
    """Every goal for every model and number of threads that something was measured for."""
    rows = []
    places = list(dict.fromkeys((one.model, one.threads) for one in summaries))
    for goal in GOALS:
        seen: set[str] = set()
        for model, threads in places:
            if not model.startswith(goal.models) or (not goal.every_count and model in seen):
                continue
            seen.add(model)
            here = [one for one in summaries if (one.model, one.threads) == (model, threads)]
            best = best_rival(goal, model, threads, summaries, accuracy) if goal.rivals else None
            mine = [one for one in here if one.rival == OURS]
            rows.append(
                Row(goal, model, threads, best, tuple(_verdict(goal, one, best, accuracy, summaries) for one in mine))
            )
    return rows


def _verdict(
    goal: Goal, one: Summary, best: tuple[str, float] | None, accuracy: Accuracy, summaries: Sequence[Summary]
) -> Verdict:
    value, rise = goal.value(one), accuracy.rise(one.key)
    if value is None or (goal.rivals and best is None):
        return Verdict(one.name, "not measured", value=value, rise=rise)
    score = value / best[1] if best else value
    if not is_accurate(one, accuracy, summaries):
        return Verdict(one.name, "less accurate", score, value, rise)
    return Verdict(one.name, "met" if score <= goal.limit else "missed", score, value, rise)


def overall(one: Summary, summaries: Sequence[Summary], accuracy: Accuracy) -> float | None:
    """Time of all short bands over the fastest accurate rival's."""
    if not BANDS.keys() <= one.seconds.keys():
        return None
    others = [
        sum(other.seconds[band] for band in BANDS)
        for other in summaries
        if (other.model, other.threads) == (one.model, one.threads)
        and other.rival != OURS
        and BANDS.keys() <= other.seconds.keys()
        and is_accurate(other, accuracy, summaries)
    ]
    return sum(one.seconds[band] for band in BANDS) / min(others) if others else None


def spread_of(summaries: Sequence[Summary]) -> float | None:
    """The median spread: how far single ratios can be trusted."""
    spreads = [one.spread for one in summaries if one.spread is not None]
    return median(spreads) if spreads else None
