"""Files that appear all at once or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from edge_asr_deploy.errors import UserError


@contextmanager
def appearing(path: Path, lasting: bool = False) -> Iterator[BinaryIO]:
    """Write to the file that is given, which gets the name `path` when all is well; else nothing has changed.

    A file that is there keeps its permissions, a new one has those that the user's umask leaves. `lasting`: also after
    a power cut. OSError where it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.urandom(4).hex()}.partial")
    # Not by `tempfile`, which overrules the umask: the system itself applies it to a file that is opened.
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            with suppress(FileNotFoundError):
                os.fchmod(handle, path.stat().st_mode & 0o777)
            yield file
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def write_atomically(path: Path, content: str | bytes, lasting: bool = False) -> None:
    """Write a file, and its folder where there is none: whoever reads it sees the old contents or the new ones.

    Permissions and `lasting` are those of `appearing`. OSError where it is impossible; then nothing has changed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with appearing(path, lasting) as file:
        file.write(content.encode() if isinstance(content, str) else content)


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
