"""Widths on the command line: `2,3,4`."""

from __future__ import annotations

from edge_asr_deploy.errors import UserError


def widths(text: str) -> tuple[int, ...]:
    """The widths in a list separated by commas, sorted and without repetitions. UserError for anything but numbers."""
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise UserError("--bits-choices", text, "write widths from 2 to 8 separated by commas, such as 3,4,8") from None
