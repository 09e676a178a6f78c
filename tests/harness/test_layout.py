"""Names break between words, tables keep to the terminal, figures have no exponent."""

from __future__ import annotations

import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from edge_asr_deploy.harness.layout import FittedTable, Words, plain


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("whisper-tiny.en-float", 21, ["whisper-tiny.en-float"]),
        ("whisper-tiny.en-float", 16, ["whisper-tiny.en-", "float"]),
        ("whisper-tiny.en-float", 8, ["whisper-", "tiny.en-", "float"]),
        ("model.layers.10.fc1", 12, ["model.", "layers.10.", "fc1"]),
        ("MatMulNBits of 12", 11, ["MatMulNBits", "of 12"]),
        ("  subst. / del. / ins.", 12, ["  subst. /", "  del. /", "  ins."]),
        # A figure is never parted, though it has a point and a sign.
        ("+0.00 to -12.52", 8, ["+0.00 to", "-12.52"]),
        ("2026-11-28", 4, ["2026-11-28"]),
        ("", 5, [""]),
        ("今日は", 6, ["今日は"]),
    ],
)
def test_lines_end_between_words(text: str, width: int, lines: list[str]) -> None:
    assert list(Words(text).lines(width)) == lines


def shown(table: FittedTable, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text()


def example() -> FittedTable:
    table = FittedTable(title="a/rather-long/path-of-a-bundle", caption="one two three")
    table.head("")
    table.head("whisper-tiny.en-float", right=True)
    table.head("whisper-tiny.en-w4", right=True)
    table.row("per token, ms p50 / p99", "9.04 / 27.15", Text("6.16 / 15.59", style="red"))
    table.row("[red]not markup[/red]", ":smile:", "")
    return table


@pytest.mark.parametrize("width", [200, 60, 50])
def test_headings_break_before_cells(width: int) -> None:
    text = shown(example(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "9.04 / 27.15" in text and "[red]not" in text and ":smile:" in text
    for piece in ("whisper-", "float", "w4", "token,", "path-"):
        assert piece in text


def test_a_table_may_be_shown_twice_and_where_no_width_is_enough() -> None:
    table = example()
    assert shown(table, 70) == shown(table, 70)
    assert shown(table, 200) == shown(example(), 200)
    assert shown(table, 20)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1580.4, "1580"), (1e6, "1000000"), (15.84, "15.8"), (9.999, "10.0"), (0.0412, "0.0412"), (4.12e-05, "0.0000412"),
     (0, "0"), (-1580, "-1580"), (math.inf, "inf"), (math.nan, "nan")],
)  # fmt: skip
def test_numbers_have_no_exponent(value: float, text: str) -> None:
    assert plain(value) == text


@given(st.floats(1e-9, 1e12))
def test_a_plain_number_is_the_number(value: float) -> None:
    assert "e" not in plain(value)
    assert float(plain(value)) == pytest.approx(value, rel=0.0051)
