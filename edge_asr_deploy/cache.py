"""Where caches are, and how they are written: folders that appear all at once, values by name in one file.

Whoever keeps something decides what its key is. What is kept may be deleted at any time: it is made again.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.files import write_atomically
from edge_asr_deploy.sealing import is_sealed, seal_folder, sealed, unsealed

# Filling a folder takes seconds to hours: what is older than a day was left by a killed process.
STALE_SECONDS = 24 * 3600.0


def cache_root() -> Path:
    """EDGE_ASR_CACHE, else `~/.cache/edge_asr_deploy`; for a user without a home a folder among temporary files.

    `~` is expanded: no shell does that in a unit file, a container's settings or a quoted value.
    """
    if chosen := os.environ.get("EDGE_ASR_CACHE"):
        return own(Path(chosen).expanduser())
    try:
        return own(Path.home() / ".cache" / "edge_asr_deploy")
    except RuntimeError:
        # A user id without an entry in passwd, as containers have.
        return own(Path(tempfile.gettempdir()) / f"edge_asr_deploy-{os.getuid()}")


def own(root: Path) -> Path:
    """The root itself, or a folder of this user's in it where others could write: what they left there is not trusted.

    UserError where somebody else has made that folder.
    """
    if not root.exists() or is_trusted(root):
        return root
    folder = root / f"user-{os.getuid()}"
    with suppress(OSError):
        folder.mkdir(mode=0o700)
    if folder.exists() and not is_trusted(folder):
        remedy = "set EDGE_ASR_CACHE to a folder of your own"
        raise UserError("EDGE_ASR_CACHE", folder, f"belongs to another user, or others may write it; {remedy}")
    return folder


def is_trusted(path: Path) -> bool:
    """Whether only this user, root, or this user's own group can have written a file or folder.

    A group is trusted where it is the user's first: most systems give every user a group of their own, and some make
    files writable for it. False for what is not there.
    """
    try:
        status = path.stat()
    except OSError:
        return False
    if status.st_uid not in (os.getuid(), 0) or status.st_mode & stat.S_IWOTH:
        return False
    return not status.st_mode & stat.S_IWGRP or status.st_gid in (os.getgid(), 0)


def make_folder(
    folder: Path, fill: Callable[[Path], None], is_good: Callable[[Path], bool] = is_sealed, seal: bool = True
) -> None:
    """Let `fill` write the files of a folder that is not there yet, or that is not `is_good`.

    With `seal` the folder gets a list of the files' hashes, by which `is_sealed` finds every later change. The files
    are written to a hidden sibling folder, flushed to the disk, and the folder is renamed. Of two processes that make
    the same folder at once, the later one drops its copy. OSError where the folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        fill(partial)
        if seal:
            seal_folder(partial)
        _settle(partial)
        _publish(partial, folder, is_good)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def clear_stale(parent: Path) -> None:
    """Remove the hidden folders and half-written files in `parent` that killed processes left."""
    for path in parent.glob(".*"):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime <= STALE_SECONDS:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name.endswith(".partial"):
                path.unlink()


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
                self._values = dict(json.loads(unsealed(self.path.read_bytes()) or "{}"))

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
            write_atomically(self.path, sealed(json.dumps(self._values, indent=1)))
