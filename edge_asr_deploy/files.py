"""Files that appear all at once or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from edge_asr_deploy.errors import UserError


def write_atomically(path: Path, content: str | bytes, lasting: bool = False) -> None:
    """Write a file, and its folder where there is none: whoever reads it sees the old contents or the new ones.

    `lasting`: also after a power cut. OSError where that is impossible; then nothing has changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            # mkstemp makes files for their owner only.
            os.fchmod(file.fileno(), 0o644)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def write_output(option: str, path: Path, content: str | bytes) -> None:
    """The same for what the user asked for by `option`: UserError where it cannot be written."""
    try:
        write_atomically(path, content, lasting=True)
    except OSError as error:
        raise UserError(option, path, f"cannot be written ({error.strerror}); choose another place") from None


def require_folder(option: str, path: Path | None) -> None:
    """UserError, before any work, where the file asked for by `option` has no folder to be written to."""
    if path is not None and not path.parent.is_dir():
        raise UserError(option, path, "its folder does not exist; create it first")
