"""Where caches are, and how they are written: folders that appear all at once, values by name in one file.

Whoever keeps something decides what its key is. What is kept may be deleted at any time: it is made again.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge_asr_deploy.files import write_atomically

# Filling a folder takes seconds to hours: what is older than a day was left by a killed process.
STALE_SECONDS = 24 * 3600.0


def cache_root() -> Path:
    """EDGE_ASR_CACHE, else `~/.cache/edge_asr_deploy`; for a user without a home a folder among temporary files."""
    if chosen := os.environ.get("EDGE_ASR_CACHE"):
        return Path(chosen)
    try:
        return Path.home() / ".cache" / "edge_asr_deploy"
    except RuntimeError:
        # A user id without an entry in passwd, as containers have.
        return Path(tempfile.gettempdir()) / f"edge_asr_deploy-{os.getuid()}"


def make_folder(folder: Path, fill: Callable[[Path], None], is_good: Callable[[Path], bool] = Path.is_dir) -> None:
    """Let `fill` write the files of a folder that is not there yet, or that is not `is_good`.

    The files are written to a hidden sibling folder, flushed to the disk, and the folder is renamed. Of two processes
    that make the same folder at once, the later one drops its copy. OSError where the folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        fill(partial)
        _settle(partial)
        _publish(partial, folder, is_good)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def clear_stale(parent: Path) -> None:
    """Remove the hidden folders in `parent` that killed processes left."""
    for path in parent.glob(".*"):
        if path.is_dir() and time.time() - path.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _settle(folder: Path) -> None:
    """Give the files their usual modes and get them onto the disk before their folder gets its name."""
    umask = os.umask(0)
    os.umask(umask)
    folder.chmod(0o777 & ~umask)
    for path in folder.iterdir():
        # Only where it differs: a change of mode is a change of the file's status, which `fill` may have noted.
        if path.stat().st_mode & 0o777 != 0o666 & ~umask:
            path.chmod(0o666 & ~umask)
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _publish(partial: Path, folder: Path, is_good: Callable[[Path], bool]) -> None:
    """Give the folder its name, unless another process has just made the same; a bad one goes."""
    if folder.exists() and not is_good(folder):
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            os.rename(folder, aside)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    try:
        os.rename(partial, folder)
    except OSError:
        # Another process was first: the same code made the same files.
        if not is_good(folder):
            raise


class Values:
    """JSON values by name, in one file in `folder` (None: kept in memory alone).

    `key` is everything but the name that decides about the values: hashes, settings, versions. A file that cannot be
    read counts as empty, one that cannot be written costs time and nothing else.
    """

    def __init__(self, folder: Path | None, *key: str) -> None:
        # Imported here: it loads OpenSSL, 3 MB that a later start of the runtime does not need.
        import hashlib

        name = hashlib.sha256("\n".join(key).encode()).hexdigest()[:32]
        self.path = None if folder is None else folder / f"{name}.json"
        self._values: dict[str, Any] = {}
        if self.path is not None:
            with suppress(OSError, ValueError, RecursionError):
                self._values = dict(json.loads(self.path.read_text(encoding="utf-8")))

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str) -> Any:
        """The value of that name, or None."""
        return self._values.get(name)

    def put(self, name: str, value: Any) -> None:
        """Remember a value; `save` writes it down."""
        self._values[name] = value

    def save(self) -> None:
        """Write the file, all at once."""
        if self.path is None:
            return
        with suppress(OSError):
            write_atomically(self.path, json.dumps(self._values, indent=1))
