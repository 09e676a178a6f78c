"""Derived files kept on disk between starts, such as optimized graphs: made once, checked each time, never needed.

Whatever goes wrong, there is no entry and the caller does without. An entry is a folder that appears all at once; of
two processes that make the same one, the later drops its own. `hashlib` is imported only where bytes are read: it loads
OpenSSL, 3 MB and some milliseconds that a later start does not need.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from edge_asr_deploy.cache import STALE_SECONDS, cache_root, clear_stale, make_folder
from edge_asr_deploy.files import write_atomically

VARIABLE = "EDGE_ASR_STARTUP_CACHE"
OFF = frozenset({"0", "off", "no", "false"})
INDEX = "entry.json"
# Bytes of all entries together; beyond it those go that were not used for longest.
LIMIT = 1 << 30

Stamp = list[int]
Read = TypeVar("Read")


def startup_root() -> Path | None:
    """Where entries are: EDGE_ASR_STARTUP_CACHE, else `startup` in EDGE_ASR_CACHE or `~/.cache/edge_asr_deploy`.

    None when EDGE_ASR_STARTUP_CACHE is `off`, and for a user without a home.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return None if chosen.lower() in OFF else Path(chosen)
    try:
        return cache_root() / "startup"
    except RuntimeError:
        return None


def stamp(path: Path) -> Stamp:
    """What differs when a file was written, replaced or moved: size, times of modification and change (ns), inode."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def read_index(path: Path) -> dict[str, Any]:
    """A JSON object; empty when there is none, or none that can be read."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_index(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object, onto the disk. OSError when that fails."""
    write_atomically(path, json.dumps(content), lasting=True)


def entry(name: str, about: str, make: Callable[[Path], None]) -> Path | None:
    """The folder of an entry, whose files are as they were made; `make` fills it where there is none.

    `about` tells everything that the files depend on: an entry of that name about something else is made again, and so
    is one with a damaged file. A file is trusted while its stamp is as it was noted, else read and hashed. None where
    nothing can be kept; errors of `make` other than OSError are the caller's.
    """
    root = startup_root()
    if root is None:
        return None
    folder = root / name
    try:
        if _is_sound(folder, about):
            return folder

        def fill(partial: Path) -> None:
            make(partial)
            _describe(partial, about)

        make_folder(folder, fill, lambda folder: _is_sound(folder, about))
        with suppress(OSError):
            _prune(root, folder)
    except OSError:
        return None
    return folder


def use(name: str, about: str, make: Callable[[Path], None], read: Callable[[Path], Read]) -> Read | None:
    """What `read` makes of an entry's folder (`entry`); None where there is none to be had, or none that can be read.

    Whatever `make` and `read` raise counts as that: onnxruntime's and tokenizers' exceptions have no public base class,
    and what is really wrong shows when the caller does without.
    """
    try:
        folder = entry(name, about, make)
    except Exception:
        return None
    if folder is None:
        return None
    with suppress(Exception):
        return read(folder)
    _discard(folder)
    return None


def _discard(folder: Path) -> None:
    """Remove an entry that turned out to be of no use. Processes that have its files open keep them."""
    shutil.rmtree(folder, ignore_errors=True)


def _is_sound(folder: Path, about: str) -> bool:
    """Whether the files are those that were made about the same thing."""
    index = read_index(folder / INDEX)
    files = index.get("files")
    if index.get("about") != about or not isinstance(files, dict):
        return False
    try:
        stamps = {name: stamp(folder / name) for name in files}
        changed = [name for name, known in files.items() if stamps[name] != known["stamp"]]
        if any(_digest(folder / name) != files[name]["sha256"] for name in changed):
            return False
        if changed or time.time() - (folder / INDEX).stat().st_mtime > STALE_SECONDS:
            # The index's own time says when the entry was last of use, to a day.
            renewed = {name: {**known, "stamp": stamps[name]} for name, known in files.items()}
            with suppress(OSError):
                write_index(folder / INDEX, {**index, "files": renewed})
    except (OSError, KeyError, TypeError):
        return False
    return True


def _describe(folder: Path, about: str) -> None:
    """Note what the files are."""
    files = {}
    for path in sorted(folder.iterdir()):
        files[path.name] = {"sha256": _digest(path), "stamp": stamp(path)}
    write_index(folder / INDEX, {"about": about, "files": files})


def _prune(root: Path, newest: Path) -> None:
    """Remove what killed processes left, and the entries that were not used for longest while all exceed `LIMIT`."""
    for parent in root.iterdir():
        if parent.is_dir():
            clear_stale(parent)
    ages = {path: (path / INDEX).stat().st_mtime for path in _visible(root) if (path / INDEX).is_file()}
    sizes = {path: sum(file.stat().st_size for file in path.iterdir()) for path in ages}
    for path in sorted(ages, key=ages.__getitem__):
        if sum(sizes.values()) <= LIMIT:
            break
        if path != newest:
            _discard(path)
            del sizes[path]


def _visible(root: Path) -> Iterator[Path]:
    """The folders of entries (`KIND/NAME`)."""
    return (path for path in root.glob("*/*") if path.is_dir() and not path.name.startswith("."))


def _digest(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
