"""How commands print an error or a note: one line on standard error."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from edge_asr_deploy.errors import Note
from edge_asr_deploy.files import write_atomically
from edge_asr_deploy.printing import note_line, one_line

# Set by `boards.agent`. The lines then go to another machine, which adds the program's name and the board's name.
PLAIN_ERRORS = "EDGE_ASR_PLAIN_ERRORS"
# Letters of an unforeseen message that are shown.
LONGEST = 300
# A file for the traceback of an error that nobody foresaw.
TRACEBACK = "EDGE_ASR_TRACEBACK"


def unexpected_line(error: Exception) -> str:
    """The line for an error that is no `UserError`; its traceback goes to the file that EDGE_ASR_TRACEBACK names."""
    reason = one_line(" ".join(str(error).split()))[:LONGEST] or "no message"
    said = f"{type(error).__name__}: {reason}"
    if isinstance(error, MemoryError):
        return error_line(f"too little memory ({said}); free some, or raise its limit (`ulimit -v`, the container's)")
    path = os.environ.get(TRACEBACK)
    if not path:
        remedy = f"run it again with {TRACEBACK}=FILE, and report that file"
        return error_line(f"{said}; nobody foresaw this: {remedy}")
    try:
        write_atomically(Path(path), "".join(traceback.format_exception(error)))
    except OSError as failure:
        return error_line(f"{said}; {TRACEBACK}={path} cannot be written ({failure.strerror})")
    return error_line(f"{said}; the traceback is in {path}")


def is_plain() -> bool:
    """True when this process runs on a board for another machine."""
    return bool(os.environ.get(PLAIN_ERRORS))


def error_line(message: object) -> str:
    """The line for an error: `edge-deploy: MESSAGE`, or only the message when this process runs on a board."""
    return str(message) if is_plain() else f"edge-deploy: {message}"


@contextmanager
def terminated_as_exit() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that half-written folders go; the exit code is the shell's 143."""

    def leave(number: int, frame: object) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, usual)


@contextmanager
def notes_as_lines() -> Iterator[None]:
    """Print each note as one line on standard error, and all other warnings as Python does."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if isinstance(message, Note):
            print(note_line(one_line(str(message))), file=sys.stderr)
        else:
            usual(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        usual, warnings.showwarning = warnings.showwarning, show
        yield
