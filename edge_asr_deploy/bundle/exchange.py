"""Exchanging the names of two folders in one step of the file system, so that no moment has neither."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_EXCHANGE = 2  # RENAME_EXCHANGE in linux/fs.h
_CURRENT_FOLDER = -100  # AT_FDCWD in fcntl.h
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)


def exchange(first: Path, second: Path) -> bool:
    """Exchange two names (renameat2, Linux 3.15). False, and nothing done, where system or file system cannot.

    OSError where it fails for another reason.
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    if not renameat2(_CURRENT_FOLDER, os.fsencode(first), _CURRENT_FOLDER, os.fsencode(second), _EXCHANGE):
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(first))
