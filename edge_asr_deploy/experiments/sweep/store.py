"""What stages computed, on disk: one entry per key, complete or absent, made by one process at a time."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_asr_deploy.cache import cache_root, clear_stale, make_folder
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.files import write_atomically
from edge_asr_deploy.sealing import is_sealed, sealed, unsealed


def key_of(parts: Mapping[str, Any]) -> str:
    """32 hexadecimal digits for everything that determines an entry; `parts` is JSON, its order does not matter."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def write_text(path: Path, text: str) -> None:
    """Write a file all at once: whoever reads it sees the old contents or the new ones."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """The same for bytes. UserError when the folder cannot be written."""
    try:
        write_atomically(path, content)
    except OSError as error:
        remedy = f"cannot be written ({error.strerror}); free some space, or choose another folder"
        raise UserError("folder", path.parent, remedy) from None


def read_sealed(path: Path) -> str | None:
    """The text that `write_sealed` wrote; None when it is not there or was changed since."""
    try:
        return unsealed(path.read_bytes())
    except OSError:
        return None


def write_sealed(path: Path, text: str) -> None:
    """The same as `write_text`, with the text's hash in a last line."""
    write_text(path, sealed(text))


class Store:
    """Entries below `root`, by default `sweep` in EDGE_ASR_CACHE: `STAGE/KEY`, a folder or a file."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = cache_root() / "sweep" if root is None else root

    def path(self, stage: str, key: str) -> Path:
        """Where an entry is, or would be. It exists only when it is complete."""
        return self.root / stage / key

    @contextmanager
    def alone(self, stage: str, key: str) -> Iterator[Path]:
        """Hold the entry's lock and get its path: of two processes that want the same entry, one computes it.

        The lock goes with the process, however that ends.
        """
        path = self.path(stage, key)
        lock = path.with_name(f".{key}.lock")
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            remedy = f"cannot be written ({error.strerror}); set EDGE_ASR_CACHE to a folder that can"
            raise UserError("EDGE_ASR_CACHE", lock.parent, remedy) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield path
        finally:
            os.close(handle)

    def make_folder(self, stage: str, key: str, fill: Callable[[Path], None]) -> Path:
        """The entry's folder; `fill` makes its contents if they are not there. Call while holding the lock."""
        path = self.path(stage, key)
        if is_sealed(path):
            return path
        # Left by a process that was killed.
        clear_stale(path.parent)
        make_folder(path, fill)
        return path
