"""Converted checkpoints, kept on disk: a folder appears all at once, and two processes may want the same one."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from edge_asr_deploy.errors import UserError

# Part of every folder's name: raise it when a conversion writes something else than before.
LAYOUT = "v1"
STALE_SECONDS = 24 * 3600.0


def cache_root() -> Path:
    """EDGE_ASR_CACHE, else `~/.cache/edge_asr_deploy`."""
    return Path(os.environ.get("EDGE_ASR_CACHE") or Path.home() / ".cache" / "edge_asr_deploy")


def converted(name: str, sha256: str, convert: Callable[[Path], None]) -> Path:
    """The folder of a converted checkpoint; `convert` fills it when it is not there yet.

    The work is done in a hidden sibling folder that is renamed when complete. Of two processes that convert the same
    weights at once, the later one drops its copy. UserError when the folder cannot be written.
    """
    folder = cache_root() / "checkpoints" / f"{name}-{sha256[:16]}-{LAYOUT}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clear_stale(folder.parent)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            convert(partial)
            _settle(partial)
            _publish(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except Exception as error:
        # safetensors wraps what the system says about a full disk in an exception of its own.
        is_full = os.strerror(errno.ENOSPC) in str(error)
        if not is_full and not isinstance(error, OSError):
            raise
        reason = os.strerror(errno.ENOSPC) if is_full else getattr(error, "strerror", None) or error
        remedy = "free some space there, or set EDGE_ASR_CACHE to a folder that can be written"
        raise UserError("EDGE_ASR_CACHE", cache_root(), f"cannot be written ({reason}); {remedy}") from error
    return folder


def _settle(folder: Path) -> None:
    """Give the files their usual modes and get them onto the disk before their folder gets its name."""
    umask = os.umask(0)
    os.umask(umask)
    folder.chmod(0o777 & ~umask)
    for path in folder.iterdir():
        path.chmod(0o666 & ~umask)
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _publish(partial: Path, folder: Path) -> None:
    try:
        partial.rename(folder)
    except OSError:
        # Another process was first: the same weights were converted by the same code, so theirs is as good.
        if not folder.is_dir():
            raise


def _clear_stale(parent: Path) -> None:
    """Remove what killed processes left; a conversion takes seconds, so a day-old one is dead."""
    for path in parent.glob(".*"):
        if path.is_dir() and time.time() - path.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
