"""How a bundle is written: to a hidden sibling folder that is renamed into place, so that no half bundle appears."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from edge_asr_deploy.bundle.exchange import exchange
from edge_asr_deploy.bundle.manifest import CARD, MANIFEST, UNSEALED, FileEntry, Manifest, file_names
from edge_asr_deploy.bundle.side_files import SIDE_FILES
from edge_asr_deploy.cache import STALE_SECONDS
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.files import write_atomically

# A writer locks its folder within microseconds after making it.
LOCKED_WITHIN = 60.0


class BundleWriter:
    """Write a bundle: fill `folder`, then `commit`. Leaving the `with` block without a commit leaves no trace.

    >>> with BundleWriter(Path("exported/tiny"), overwrite=False) as writer:  # doctest: +SKIP
    ...     (writer.folder / "README.md").write_text("...")
    ...     writer.commit(manifest)

    Raises UserError at construction when `destination` exists (unless `overwrite`, and then only for a bundle), and
    on leaving when the disk was full. With `overwrite` the old bundle stays in place until the new one is complete.
    """

    def __init__(self, destination: Path, overwrite: bool = False) -> None:
        self.destination = Path(os.path.realpath(destination))
        self.overwrite = overwrite
        self._mark = secrets.token_hex(4)
        self.folder = self._sibling("partial")
        self._lock: int | None = None
        self._check_destination()

    def __enter__(self) -> Self:
        try:
            self.destination.parent.mkdir(parents=True, exist_ok=True)
            self._clear_stale()
            # Locked before it has the name by which others look for what killed writers left.
            fresh = self._sibling("new")
            fresh.mkdir()
            self._lock = os.open(fresh, os.O_RDONLY)
            with suppress(OSError):  # a file system without locks
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(fresh, self.folder)
        except OSError as error:
            raise _as_user_error(self.destination, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
        if error is not None and _disk_is_full(error):
            raise _as_user_error(self.destination, error) from error

    def commit(self, manifest: Manifest) -> Manifest:
        """Hash every file in `folder`, write the manifest, flush to disk and rename into place.

        Returns the manifest as written, with `files` and `seal` filled in.
        """
        files = {name: FileEntry.of(self.folder / name) for name in sorted(file_names(self.folder)) if name != MANIFEST}
        manifest = _sealed(manifest.model_copy(update={"files": files, "seal": UNSEALED}))
        (self.folder / MANIFEST).write_text(_dump(manifest), encoding="utf-8")
        for path in (*self.folder.rglob("*"), self.folder):
            _flush(path)
        self._rename_into_place()
        return manifest

    def _rename_into_place(self) -> None:
        self._check_destination()
        if not self.destination.exists():
            os.rename(self.folder, self.destination)
        elif exchange(self.folder, self.destination):
            # The old bundle has the hidden name now.
            _bring_over(self.folder, self.destination)
        else:
            self._rename_twice()
        _flush(self.destination.parent)

    def _rename_twice(self) -> None:
        """Where the file system cannot exchange names; what is killed in between is put back by the next export."""
        aside = self._sibling("old")
        os.rename(self.destination, aside)
        try:
            os.rename(self.folder, self.destination)
        except BaseException:
            if not self.destination.exists():
                os.rename(aside, self.destination)
            raise
        _bring_over(aside, self.destination)
        shutil.rmtree(aside, ignore_errors=True)

    def _sibling(self, role: str) -> Path:
        return self.destination.with_name(f".{self.destination.name}.{role}-{self._mark}")

    def _check_destination(self) -> None:
        if not self.destination.exists():
            return
        if not self.overwrite:
            raise UserError("--output", self.destination, "exists already; add --overwrite to replace it")
        if not (self.destination / MANIFEST).is_file():
            raise UserError(
                "--overwrite", self.destination, "is not a bundle, so it is not replaced; choose another --output"
            )

    def _clear_stale(self) -> None:
        """Remove what killed writers left; where one was killed between two renames, put the old bundle back.

        A living writer holds a lock on its folder, which holds across containers, as process ids do not.
        """
        pattern = re.compile(re.escape(f".{self.destination.name}.") + r"(new|partial|old)-([0-9a-f]+)")
        for path in sorted(self.destination.parent.iterdir()):
            match = pattern.fullmatch(path.name)
            if match is None or not _is_left(path, match[1]):
                continue
            partial = self.destination.with_name(f".{self.destination.name}.partial-{match[2]}")
            if match[1] == "old" and partial.exists() and not _is_left(partial, "partial"):
                continue
            if match[1] == "old" and not self.destination.exists():
                os.rename(path, self.destination)
                self._check_destination()
                continue
            if (path / MANIFEST).is_file() and self.destination.exists():
                # A whole bundle: the new one before it got its name, or the old one after it lost it.
                _bring_over(path, self.destination)
            shutil.rmtree(path, ignore_errors=True)


def _is_left(folder: Path, role: str) -> bool:
    """Whether the writer of a hidden folder is gone."""
    try:
        age = time.time() - folder.stat().st_mtime
        if role == "new" and age < LOCKED_WITHIN:
            return False
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # No locks on this file system: no export takes so long.
        return age > STALE_SECONDS
    finally:
        os.close(handle)
    return True


def replace_card(folder: Path, manifest: Manifest, text: str) -> None:
    """Write another card, and its hash into the manifest. OSError where that is impossible.

    Between the two steps the bundle is good already, since its card does not count.
    """
    card = text.encode()
    write_atomically(folder / CARD, card, lasting=True)
    write_atomically(folder / MANIFEST, manifest_with(manifest, card), lasting=True)


def manifest_with(manifest: Manifest, card: bytes) -> bytes:
    """The contents of `manifest.json` for a bundle with another card."""
    files = {**manifest.files, CARD: FileEntry(sha256=hashlib.sha256(card).hexdigest(), size=len(card))}
    return _dump(_sealed(manifest.model_copy(update={"files": files, "seal": UNSEALED}))).encode()


def _bring_over(old: Path, new: Path) -> None:
    """Move what is no part of a replaced bundle, such as `.git`, into the new one."""
    try:
        listed = json.loads((old / MANIFEST).read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        listed = ()
    own = {MANIFEST, CARD, *SIDE_FILES, *(str(name).partition("/")[0] for name in listed)}
    for path in old.iterdir():
        if path.name not in own and ".onnx" not in path.name and not os.path.lexists(new / path.name):
            with suppress(OSError):
                os.rename(path, new / path.name)


def _dump(manifest: Manifest) -> str:
    return manifest.model_dump_json(indent=1) + "\n"


def _sealed(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"seal": hashlib.sha256(_dump(manifest).encode()).hexdigest()})


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # A file system without fsync (some network shares) answers EINVAL: no reason to lose a finished export.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)


def _disk_is_full(error: BaseException | None) -> bool:
    """True when `error` or what caused it is ENOSPC; libraries in C++ and Rust say so only in their message."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _as_user_error(destination: Path, error: BaseException) -> UserError:
    if _disk_is_full(error):
        return UserError(
            "disk full", destination.parent, "free some space or choose another --output; nothing was written"
        )
    reason = error.strerror if isinstance(error, OSError) else error
    return UserError("--output", destination, f"cannot be written ({reason}); choose another --output")
