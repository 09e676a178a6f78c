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
    """The same for what the user asked for by `option`: UserError where it cannot be written.

    What is there and no file (`/dev/stdout`, a named pipe) is written to, not replaced.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        else:
            write_atomically(path, content, lasting=True)
    except OSError as error:
        raise UserError(option, path, f"cannot be written ({error.strerror}); choose another place") from None


def require_writable(option: str, path: Path | None, makes_folders: bool = False) -> None:
    """UserError, before any work, where the file asked for by `option` cannot be written.

    `makes_folders`: its folder need not be there, since it is made with the file.
    """
    if path is None:
        return
    if path.is_dir():
        raise UserError(option, path, "is a folder; name a file in it")
    folder = path.parent
    while makes_folders and not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if folder.exists() and not folder.is_dir():
        raise UserError(option, path, f"{folder} is a file, not a folder; choose another place")
    if not folder.is_dir():
        raise UserError(option, path, "its folder does not exist; create it first")
    # A new file takes the old one's place, so that the folder decides; what is no file is written to itself.
    target = path if path.exists() and not path.is_file() else folder
    if not os.access(target, os.W_OK):
        raise UserError(option, path, f"cannot be written (no permission for {target}); choose another place")
