"""How commands print an error: one line on standard error."""

from __future__ import annotations

import os

# Set by `boards.agent`. The lines then go to another machine, which adds the program's name and the board's name.
PLAIN_ERRORS = "EDGE_ASR_PLAIN_ERRORS"


def is_plain() -> bool:
    """True when this process runs on a board for another machine."""
    return bool(os.environ.get(PLAIN_ERRORS))


def error_line(message: object) -> str:
    """The line for an error: `edge-deploy: MESSAGE`, or only the message when this process runs on a board."""
    return str(message) if is_plain() else f"edge-deploy: {message}"
