"""Marks on a scale, in percent of its width."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asr_deploy.harness.reporting.charts import Mark, chart


def mark(value: float | None, low: float | None = None, high: float | None = None) -> Mark:
    return Mark("w4", False, value, low, high)


def test_the_scale_ends_at_a_round_number_above_all_marks() -> None:
    drawn = chart([("a", [mark(8, 6, 12)]), ("b", [mark(17)])], " %")
    assert [text for _, text in drawn.ticks] == ["0 %", "5 %", "10 %", "15 %", "20 %"]
    first = drawn.groups[0].lines[0]
    assert (first.at, first.start, first.width) == (40, 30, 30)
    assert drawn.groups[1].lines[0].at == 85


def test_what_was_not_measured_has_no_place() -> None:
    drawn = chart([("", [mark(None), mark(math.nan), mark(1)])])
    assert [line.at for line in drawn.groups[0].lines] == [None, None, 100]


def test_a_scale_without_marks_can_be_drawn() -> None:
    assert chart([("", [mark(None)])]).ticks[0] == (0, "0")
    assert chart([]).groups == []


def test_what_reaches_beyond_the_most_is_cut_and_says_so() -> None:
    lines = chart([("", [mark(300, 250, math.inf), mark(20)])], most=100).groups[0].lines
    assert (lines[0].at, lines[0].width, lines[0].is_cut) == (100, 0, True)
    assert (lines[1].at, lines[1].is_cut) == (20, False)


@given(st.lists(st.floats(min_value=0, max_value=1e9), min_size=1))
def test_marks_keep_their_proportions(values: list[float]) -> None:
    drawn = chart([("", [mark(value) for value in values])])
    top = float(drawn.ticks[-1][1])
    assert 2 <= len(drawn.ticks) <= 7
    for line, value in zip(drawn.groups[0].lines, values, strict=True):
        assert line.at == pytest.approx(100 * value / top, abs=0.01)
        assert not line.is_cut


@pytest.mark.parametrize("top", [3e-5, 0.04, 1.5, 12345.0, 4.2e6])
def test_no_tick_has_an_exponent(top: float) -> None:
    ticks = [text for _, text in chart([("", [mark(top)])]).ticks]
    assert not [text for text in ticks if "e" in text]
    assert float(ticks[-1]) >= top * (1 - 1e-9) and len(set(ticks)) == len(ticks)
