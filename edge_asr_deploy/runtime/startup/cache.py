"""A best-effort cache on disk for derived files such as optimized graphs: checked at every start, rebuilt when stale.

It is safe to delete. If anything goes wrong, there is no entry, and the caller works without one. An entry is a folder
that appears atomically; if two processes make the same entry, the later one drops its own. `hashlib` is imported only
where bytes are hashed, because it loads OpenSSL: 3 MB and some milliseconds that later starts do not need.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from edge_asr_deploy.cache import STALE_SECONDS, cache_root, clear_stale, is_trusted, make_folder, own
from edge_asr_deploy.errors import Note, UserError
from edge_asr_deploy.files import write_atomically

VARIABLE = "EDGE_ASR_STARTUP_CACHE"
OFF = frozenset({"0", "off", "no", "false"})
INDEX = "entry.json"
# The bytes of all entries together. Beyond this limit, the least recently used entries are removed.
LIMIT = 1 << 30
# Seconds in which an entry that was used stays in any case. So at most LIMIT is written anew in this time, and a bundle
# that finds no place waits no longer for one.
KEPT_SECONDS = 3600.0

Stamp = list[int]
Content = TypeVar("Content")


def startup_root() -> Path | None:
    """The cache's folder: EDGE_ASR_STARTUP_CACHE, else `startup` in EDGE_ASR_CACHE or `~/.cache/edge_asr_deploy`.

    None when EDGE_ASR_STARTUP_CACHE is `off`, and where another user holds this user's place in a shared folder.
    """
    chosen = os.environ.get(VARIABLE)
    try:
        if chosen:
            return None if chosen.lower() in OFF else own(Path(chosen).expanduser())
        return cache_root() / "startup"
    except UserError:
        return None


def stamp(path: Path) -> Stamp:
    """Size, times of modification and change (ns), and inode: these differ after a write, a replacement or a move."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def read_index(path: Path) -> dict[str, Any]:
    """Read what `write_index` wrote; empty when the file is missing, changed since, or may be another user's."""
    try:
        if not is_trusted(path):
            return {}
        number, _, text = path.read_bytes().partition(b"\n")
        content = json.loads(text) if number == _checksum(text) else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def write_index(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object durably, behind a checksum. OSError when that fails."""
    text = json.dumps(content).encode()
    write_atomically(path, _checksum(text) + b"\n" + text, lasting=True)


def _checksum(text: bytes) -> bytes:
    # A sha256 would load OpenSSL. Damage is to be found here; against other users stands `is_trusted`.
    return b"%08x" % zlib.crc32(text)


def entry(name: str, about: str, make: Callable[[Path], None]) -> Path | None:
    """The folder of an intact entry. If there is none, `make` fills a new folder.

    `about` lists everything that the files depend on. An entry of the same name with another `about`, or with a damaged
    file, is made again. A file whose stamp has not changed is trusted; any other file is hashed. None when nothing can
    be stored. Errors of `make` other than OSError are passed on.
    """
    root = startup_root()
    if root is None:
        return None
    folder = root / name
    try:
        if _is_sound(folder, about):
            return folder
        if not _has_room(root):
            _say_full(root)
            return None

        def fill(partial: Path) -> None:
            make(partial)
            _describe(partial, about)

        make_folder(folder, fill, lambda folder: _is_sound(folder, about), seal=False)
        with suppress(OSError):
            _prune(root, folder)
    except OSError:
        return None
    return folder


def load_or_make(
    name: str, about: str, make: Callable[[Path], None], read: Callable[[Path], Content]
) -> Content | None:
    """Read an entry, which is made first if necessary. None when that fails; see `entry` for the arguments.

    Every exception of `make` and `read` counts as a failure, because those of onnxruntime and tokenizers have no public
    base class. If the bundle itself is at fault, the error shows when the caller works without the cache.
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
    """Remove an entry. Processes that have its files open can still use them."""
    shutil.rmtree(folder, ignore_errors=True)


def _is_sound(folder: Path, about: str) -> bool:
    """Whether an entry has this `about`, all its files are unchanged, and no other user can have made them."""
    index = read_index(folder / INDEX)
    files = index.get("files")
    if index.get("about") != about or not isinstance(files, dict) or not is_trusted(folder):
        return False
    if not all(is_trusted(folder / name) for name in files):
        return False
    try:
        stamps = {name: stamp(folder / name) for name in files}
        changed = [name for name, record in files.items() if stamps[name] != record["stamp"]]
        if any(_digest(folder / name) != files[name]["sha256"] for name in changed):
            return False
        if changed:
            renewed = {name: {**record, "stamp": stamps[name]} for name, record in files.items()}
            with suppress(OSError):
                write_index(folder / INDEX, {**index, "files": renewed})
        elif time.time() - (folder / INDEX).stat().st_mtime > KEPT_SECONDS / 2:
            # The index's own modification time tells when the entry was last used, to half an hour.
            with suppress(OSError):
                os.utime(folder / INDEX)
    except (OSError, KeyError, TypeError):
        return False
    return True


def _describe(folder: Path, about: str) -> None:
    """Write the index of the files' hashes and stamps."""
    files = {}
    for path in sorted(folder.iterdir()):
        files[path.name] = {"sha256": _digest(path), "stamp": stamp(path)}
    write_index(folder / INDEX, {"about": about, "files": files})


def _prune(root: Path, newest: Path) -> None:
    """Remove what killed processes left; then the least recently used entries until the rest fits `LIMIT`.

    What was used within KEPT_SECONDS stays in any case: two bundles that do not fit together would otherwise write each
    other away at every start, which wears out SD cards.
    """
    for parent in root.iterdir():
        if parent.is_dir():
            clear_stale(parent)
    used = _last_used(root)
    for path in [path for path in used if not (path / INDEX).is_file() and time.time() - used[path] > STALE_SECONDS]:
        _discard(path)
        del used[path]
    sizes = {path: _size(path) for path in used}
    for path in sorted(used, key=used.__getitem__):
        if sum(sizes.values()) <= LIMIT or time.time() - used[path] <= KEPT_SECONDS:
            break
        if path != newest:
            _discard(path)
            del sizes[path]


def _has_room(root: Path) -> bool:
    """False when the entries used within KEPT_SECONDS fill the cache: they exceed `LIMIT` by one entry at most."""
    kept = (path for path, at in _last_used(root).items() if time.time() - at <= KEPT_SECONDS)
    return sum(map(_size, kept)) < LIMIT


@cache
def _say_full(root: Path) -> None:
    """Once in a process: why it starts slowly, and what helps."""
    remedy = f"delete it, or give this program another folder: {VARIABLE}=FOLDER"
    said = f"the start-up cache {root} is full of bundles used within the hour, so this start takes longer; {remedy}"
    warnings.warn(Note(said), stacklevel=2)


def _last_used(root: Path) -> dict[Path, float]:
    """When each entry (`KIND/NAME`) was last used, to half an hour; an entry without an index, when it was made."""
    found = {}
    for path in root.glob("*/*"):
        if path.is_dir() and not path.name.startswith("."):
            with suppress(OSError):
                found[path] = (path / INDEX if (path / INDEX).is_file() else path).stat().st_mtime
    return found


def _size(folder: Path) -> int:
    with suppress(OSError):
        return sum(file.stat().st_size for file in folder.iterdir())
    return 0


def _digest(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
