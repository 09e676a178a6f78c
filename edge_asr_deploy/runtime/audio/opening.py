"""Opens what a user names: a file, a pipe, or `-` for standard input."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from edge_asr_deploy.runtime.audio.containers.stored import Refused

STANDARD_INPUT = "-"
# What is read from a pipe is kept until it is decoded, because lengths and checksums stand in many places of a file.
# 1 GB is 1.5 hours of a CD, and fits a board's card.
LARGEST_STREAM = 1 << 30
_CHUNK = 1 << 20


def is_stream(path: Path) -> bool:
    """Whether a path names standard input, a pipe or a device, which can be read only once."""
    return str(path) == STANDARD_INPUT or (path.exists() and not path.is_file() and not path.is_dir())


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file at a path, or what a pipe or standard input holds, copied to an unnamed file in the temporary folder.

    Refused when it is a folder, empty, or too large for a pipe. OSError when it cannot be read.
    """
    if str(path) == STANDARD_INPUT:
        if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
            raise Refused(
                "standard input is no file or pipe; send audio to it (edge-deploy transcribe BUNDLE - < FILE)"
            )
        with _copied(sys.stdin.buffer) as copy:
            yield copy
        return
    if path.is_dir():
        raise Refused("is a folder; name the files in it")
    with path.open("rb", buffering=0) as file:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            with _copied(file) as copy:
                yield copy
        elif status.st_size == 0:
            raise Refused("is empty (0 bytes); copy or record it again")
        else:
            yield file


@contextmanager
def _copied(stream: IO[bytes]) -> Iterator[IO[bytes]]:
    """A stream's content as a file that can be read from anywhere."""
    with _temporary() as copy:
        left = LARGEST_STREAM
        while chunk := stream.read(min(_CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise Refused(f"holds more than {LARGEST_STREAM // 10**6} MB, too much for a pipe; save it to a file")
            try:
                copy.write(chunk)
            except OSError as error:
                raise Refused(_not_kept(error)) from None
        if left == LARGEST_STREAM:
            raise Refused("is empty (0 bytes); nothing was written to it")
        yield copy


def _temporary() -> IO[bytes]:
    """A file without a name. Refused where none can be written."""
    # Imported only here: it loads `random` and OpenSSL.
    import tempfile

    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise Refused(_not_kept(error)) from None


def _not_kept(error: OSError) -> str:
    return f"cannot be kept in the temporary folder ({error.strerror}); free some space there, or set TMPDIR"
