"""Options of a command, written once: a frozen dataclass that the command line, Python and boards share.

A field that people can write carries an `Option` in its annotation. `cli.options` makes a command's parameters of these
fields, `words` makes the command line that runs the same on a board.

>>> @dataclass(frozen=True)
... class Example:
...     threads: Annotated[int, Option("Threads within an operator.", least=1)] = 2
>>> words(Example(threads=4))
['--threads', '4']
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Option:
    """What the command line says of a field. `name` where it is not `--field-name`.

    `least` and `most` bound a number. Several values are written as one word, separated by commas, with `commas`, else
    by repeating the option. A `switch` is a bool without a `--no-` form.
    """

    help: str
    name: str = ""
    metavar: str | None = None
    least: float | None = None
    most: float | None = None
    commas: bool = False
    switch: bool = False


@dataclass(frozen=True)
class Given:
    """A field that people can write: its name, type, default and option."""

    field: str
    type: Any
    default: Any
    option: Option

    @property
    def name(self) -> str:
        """As on the command line: `--audio-context`."""
        return self.option.name or "--" + self.field.replace("_", "-")


@cache
def givens(model: type) -> tuple[Given, ...]:
    """The fields of an options model that people can write, in their order."""
    hints = get_type_hints(model, include_extras=True)
    found = []
    for one in fields(model):
        hint = hints[one.name]
        if get_origin(hint) is not Annotated:
            continue
        kind, *marks = get_args(hint)
        option = next((mark for mark in marks if isinstance(mark, Option)), None)
        default = one.default if one.default is not MISSING else None
        if option is not None:
            found.append(Given(one.name, kind, default, option))
    return tuple(found)


def words(options: Any, leave_out: Collection[str] = ()) -> list[str]:
    """The words of a command line that ask for these options; defaults and the fields in `leave_out` need none."""
    found: list[str] = []
    model: type = type(options)
    for given in givens(model):
        value = getattr(options, given.field)
        if value == given.default or given.field in leave_out:
            continue
        if isinstance(value, bool):
            found.append(given.name if value else "--no-" + given.name.removeprefix("--"))
        elif isinstance(value, tuple):
            texts = [_text(one) for one in value]
            for text in [",".join(texts)] if given.option.commas else texts:
                found += [given.name, text]
        else:
            found += [given.name, _text(value)]
    return found


def _text(value: object) -> str:
    return str(value) if isinstance(value, Path | str) else repr(value)
