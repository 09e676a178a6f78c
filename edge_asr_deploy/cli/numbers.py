"""Lists of numbers on the command line: `1,2,4`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

from edge_asr_deploy.errors import UserError

Number = TypeVar("Number", int, float)


def numbers(option: str, text: str, kind: Callable[[str], Number]) -> tuple[Number, ...]:
    """The numbers in a list separated by commas, in the order given and without repetitions.

    UserError for text that is not such a list, and for a number that is not finite and above 0.
    """
    try:
        values = tuple(dict.fromkeys(kind(part) for part in text.split(",")))
    except ValueError:
        values = ()
    if not values or not all(0 < number < math.inf for number in values):
        raise UserError(option, text, "write numbers above 0 separated by commas, such as 1,2,4")
    return values
