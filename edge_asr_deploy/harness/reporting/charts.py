"""Places bars, dots and whiskers on a scale, in percent, so that a page can draw them with CSS alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Values below this count as zero.
SMALLEST = 1e-9


@dataclass(frozen=True)
class Mark:
    """One line of a chart. `value` is None if not measured. `low` and `high` are the ends of the whisker, if any."""

    label: str
    is_float: bool
    value: float | None
    low: float | None = None
    high: float | None = None
    text: str = ""


@dataclass(frozen=True)
class Drawn:
    """A mark on its scale, in percent of the track's width. `is_cut` says that it reaches beyond the end."""

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
    """Groups on one common scale. Each tick is a place in percent with its label."""

    groups: list[Group]
    ticks: list[tuple[float, str]]


def chart(groups: Sequence[tuple[str, Sequence[Mark]]], unit: str = "", most: float = math.inf) -> Chart:
    """Put marks on a scale from 0 to a round number above the largest mark, which counts as `most` at most."""
    marks = [mark for _, group in groups for mark in group]
    values = [value for mark in marks for value in (mark.value, mark.high)]
    largest = max((value for value in values if value is not None and math.isfinite(value)), default=0.0)
    largest = min(largest, most)
    step = _step(largest)
    top = step * max(1, math.ceil(largest / step - 1e-9))
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = [(100 * index * step / top, f"{index * step:.{digits}f}{unit}") for index in range(round(top / step) + 1)]
    return Chart([Group(heading, [_draw(mark, top) for mark in group]) for heading, group in groups], ticks)


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
    """The place on the scale in percent, from 0 to 100."""
    return round(100 * min(max(value / top, 0.0), 1.0), 3) if math.isfinite(value) else 100.0
