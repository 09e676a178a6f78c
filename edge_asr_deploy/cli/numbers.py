"""Lists of numbers on the command line: `1,2,4`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

from edge_asr_deploy.errors import UserError

Number = TypeVar("Number", int, float)


def numbers(option: str, text: str, kind: Callable[[str], Number]) -> tuple[Number, ...]:
    """The numbers in a list separated by commas, in its order, each once. UserError for what is none or not above 0."""
    try:
        found = tuple(dict.fromkeys(kind(part) for part in text.split(",")))
    except ValueError:
        found = ()
    if not found or not all(0 < number < math.inf for number in found):
        raise UserError(option, text, "write numbers above 0 separated by commas, such as 1,2,4")
    return found
