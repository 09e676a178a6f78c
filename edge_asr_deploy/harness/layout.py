"""How tables and figures look: names break between their words, and numbers have no exponent."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text, TextType

# Where a name may end a line: behind a sign that joins two words, but never inside a number.
_JOINT = re.compile(r"(?<=[-_./+:=@])(?=[^\W\d_])|(?<=[^\W\d][/_])(?=\d)")


class Words:
    """A cell that breaks at spaces and behind the hyphens, dots and slashes of names; inside a word only if it must.

    Further lines are indented like the first.
    """

    def __init__(self, content: str | Text) -> None:
        self.text = content if isinstance(content, Text) else Text(content)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(self.narrowest, max((cell_len(line) for line in self.text.plain.split("\n")), default=0))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = "\n".join(self.lines(options.max_width))
        # Each line keeps its place: `rich` strips the spaces of lines that it breaks itself only.
        yield Text(lines, style=self.text.style, overflow="fold")

    @property
    def narrowest(self) -> int:
        """The width in which no word is broken."""
        widths = [
            _indent(line) + cell_len(piece)
            for line in self.text.plain.split("\n")
            for word in line.split()
            for piece in _JOINT.split(word)
        ]
        return max(widths, default=0)

    def lines(self, width: int) -> Iterator[str]:
        """The text in lines of at most this width."""
        for line in self.text.plain.split("\n"):
            yield from _filled(line, width)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _filled(line: str, width: int) -> Iterator[str]:
    if cell_len(line) <= width:
        yield line
        return
    indent = " " * _indent(line)
    current = indent
    for word in line.split():
        gap = " " if current != indent else ""
        for piece in [word] if cell_len(indent + word) <= width else _JOINT.split(word):
            if current != indent and cell_len(current + gap + piece) > width:
                yield current
                current, gap = indent, ""
            current += gap + piece
            gap = ""
    yield current


class FittedTable(Table):
    """A table of `Words`: where the terminal is narrow, headings break first, then cells, both between words."""

    def head(self, heading: str, right: bool = False) -> None:
        """Add a column, whose figures stand at the right."""
        self.add_column(Words(heading), justify="right" if right else "left")

    def row(self, *cells: str | Text) -> None:
        """Add a row; what stands in brackets or between colons is text, not markup."""
        self.add_row(*(Words(cell) for cell in cells))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # Each column has two spaces of padding, and there is a line on either side of it.
        edges = 3 * len(self.columns) + 1
        widths = self._widths(options.max_width - edges)
        for column, width in zip(self.columns, widths, strict=True):
            column.width = width
        whole = sum(widths) + edges
        frame = [Words(str(part)) for part in (self.title, self.caption) if part]
        self.min_width = min(options.max_width, max([whole, *(words.narrowest for words in frame)]))
        title, caption = self.title, self.caption
        self.title, self.caption = _broken(title, self.min_width), _broken(caption, self.min_width)
        yield from super().__rich_console__(console, options)
        self.title, self.caption = title, caption

    def _widths(self, width: int) -> list[int]:
        """The width of each column, so that they fit together into `width` where that is possible."""
        heads = [_words(column.header) for column in self.columns]
        bodies = [[_words(cell) for cell in column.cells] for column in self.columns]
        widths = [_widest([head, *body]) for head, body in zip(heads, bodies, strict=True)]
        narrowest = [max(words.narrowest for words in [head, *body]) for head, body in zip(heads, bodies, strict=True)]
        for least in ([max(low, _widest(body)) for low, body in zip(narrowest, bodies, strict=True)], narrowest):
            _shrink(widths, least, width)
        return widths


def _broken(part: TextType | None, width: int) -> Text | None:
    """A title or caption, without markup: a bundle may be called `[x]`."""
    return None if part is None else Text("\n".join(Words(str(part)).lines(width)))


def _words(cell: RenderableType) -> Words:
    return cell if isinstance(cell, Words) else Words(cell if isinstance(cell, Text) else str(cell))


def _widest(cells: Sequence[Words]) -> int:
    return max((cell_len(line) for cell in cells for line in cell.text.plain.split("\n")), default=0)


def _shrink(widths: list[int], least: Sequence[int], width: int) -> None:
    """Take from the widest columns, one by one, until all fit or none may become narrower."""
    while sum(widths) > width:
        wider = [index for index, low in enumerate(least) if widths[index] > low]
        if not wider:
            return
        widths[max(wider, key=lambda index: widths[index])] -= 1


def plain(value: float, digits: int = 3) -> str:
    """A number with at least this many significant digits and no exponent: 1580, 15.8, 0.0000412."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    return f"{value:.{max(0, digits - 1 - exponent)}f}"
