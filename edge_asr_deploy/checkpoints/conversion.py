"""Converted checkpoints, kept in the cache."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from edge_asr_deploy.cache import cache_root, clear_stale, is_trusted, make_folder
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.sealing import is_sealed

# Part of every folder's name: raise it when a conversion writes something else than before.
LAYOUT = "v2"


def converted(name: str, sha256: str, convert: Callable[[Path], None]) -> Path:
    """The folder of a converted checkpoint; `convert` fills it when it is not there, or was changed since.

    Every byte is hashed each time: what stands there counts as the weights of that hash. Of two processes that convert
    the same weights at once, the later one drops its copy. UserError when the folder cannot be written.
    """
    folder = cache_root() / "checkpoints" / f"{name}-{sha256[:16]}-{LAYOUT}"
    if is_trusted(folder) and is_sealed(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        clear_stale(folder.parent)
        make_folder(folder, convert)
    except Exception as error:
        # safetensors wraps the system's error about a full disk in an exception of its own.
        is_full = os.strerror(errno.ENOSPC) in str(error)
        if not is_full and not isinstance(error, OSError):
            raise
        reason = os.strerror(errno.ENOSPC) if is_full else getattr(error, "strerror", None) or error
        remedy = "free some space there, or set EDGE_ASR_CACHE to a folder that can be written"
        raise UserError("EDGE_ASR_CACHE", cache_root(), f"cannot be written ({reason}); {remedy}") from error
    return folder
