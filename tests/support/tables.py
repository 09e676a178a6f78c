"""What a terminal makes of a table, and whether every word survives it."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable

from rich.console import Console, RenderableType

WIDTHS = (80, 120)
# Behind these a name may go on in the next line.
JOINTS = re.compile(r"[-_./+:=@\s]+")
FRAME = re.compile("[│┃┏┓┗┛┡┩┌┐└┘├┤┬┴┼┳┻╇╈━─╭╮╰╯]")


def shown(tables: Iterable[RenderableType], width: int) -> str:
    """What a person sees on a terminal of this width."""
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(*tables, sep="\n")
    return console.export_text()


def pieces(text: str) -> Counter[str]:
    """The words of a table's text, and the parts of its names, however they lie in lines."""
    return Counter(piece for piece in JOINTS.split(FRAME.sub(" ", text)) if piece)


def broken(tables: Iterable[RenderableType], width: int) -> Counter[str]:
    """What is broken at this width: parts of words that no wide terminal shows, and words that are gone."""
    shown_tables = list(tables)
    narrow, wide = pieces(shown(shown_tables, width)), pieces(shown(shown_tables, 1000))
    assert max(map(len, shown(shown_tables, width).splitlines())) <= width
    return (narrow - wide) + (wide - narrow)
