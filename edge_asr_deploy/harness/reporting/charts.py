"""Bars, dots and whiskers as shares of a scale: a page draws them with nothing but CSS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# What is drawn has units that people measure in: less is nothing.
SMALLEST = 1e-9


@dataclass(frozen=True)
class Mark:
    """One line of a chart. `value` None: not measured. `low` and `high`: ends of the whisker, where there is one."""

    label: str
    is_float: bool
    value: float | None
    low: float | None = None
    high: float | None = None
    text: str = ""


@dataclass(frozen=True)
class Drawn:
    """A mark on its scale: percent of the track's width. `is_cut`: it reaches beyond the end."""

    mark: Mark
    at: float | None
    start: float = 0.0
    width: float = 0.0
    is_cut: bool = False


@dataclass(frozen=True)
class Group:
    """Marks under one heading."""

    heading: str
    lines: list[Drawn]


@dataclass(frozen=True)
class Chart:
    """Groups on one common scale; a tick is its place in percent and what stands there."""

    groups: list[Group]
    ticks: list[tuple[float, str]]


def chart(groups: Sequence[tuple[str, Sequence[Mark]]], unit: str = "", most: float = math.inf) -> Chart:
    """Put marks on a scale from 0 to a round number above the largest of them, `most` at most."""
    marks = [mark for _, some in groups for mark in some]
    ends = [end for mark in marks for end in (mark.value, mark.high) if end is not None and math.isfinite(end)]
    step = _step(min(max(ends, default=0.0), most))
    top = step * max(1, math.ceil(min(max(ends, default=0.0), most) / step - 1e-9))
    ticks = [(100 * index * step / top, f"{index * step:g}{unit}") for index in range(round(top / step) + 1)]
    return Chart([Group(heading, [_draw(mark, top) for mark in some]) for heading, some in groups], ticks)


def _step(top: float) -> float:
    """A round step (1, 2 or 5 times a power of ten) that makes at most six ticks."""
    if top < SMALLEST:
        return 1.0
    rough = top / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _draw(mark: Mark, top: float) -> Drawn:
    if mark.value is None or not math.isfinite(mark.value):
        return Drawn(mark, None)
    at = _share(mark.value, top)
    low = at if mark.low is None else _share(mark.low, top)
    high = at if mark.high is None else _share(mark.high, top)
    is_cut = max(mark.value, mark.high or 0.0) > top * (1 + 1e-9)
    return Drawn(mark, at, min(low, high), abs(high - low), is_cut)


def _share(value: float, top: float) -> float:
    """Percent of the scale, kept on it."""
    return round(100 * min(max(value / top, 0.0), 1.0), 3) if math.isfinite(value) else 100.0
