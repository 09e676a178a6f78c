"""Bundles whose every byte was checked once: while no file's stamp changes, later starts need not read them again."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.startup.cache import Stamp, read_index, stamp, startup_root, write_index

if TYPE_CHECKING:
    from edge_asr_deploy.bundle.manifest import Manifest

# Notes take 2 kB each: The oldest go beyond this number.
NOTES = 256


@dataclass(frozen=True)
class Verified:
    """What a start needs of a bundle's manifest; `targets`: the files of encoder and decoder, by target.

    `hash` is that of `bundle.bundle_hash`; None where it is not certain: the files are not what the manifest says, or
    nobody has looked.
    """

    family: str
    targets: dict[str, tuple[str, str]]
    hash: str | None


def verified_bundle(bundle: Path, verify: bool) -> Verified:
    """A bundle that was verified, now or at an earlier start. UserError when it is damaged.

    Without `verify` a bundle whose files are not those of its manifest is taken as it is; one without a manifest, or
    with a broken one, never is.
    """
    root = startup_root()
    note = None if root is None else _note(root, bundle)
    if note is not None:
        recorded = read_index(note)
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            if recorded.get("stamps") == _stamps(bundle):
                targets = {name: (str(first), str(second)) for name, (first, second) in recorded["targets"].items()}
                return Verified(str(recorded["family"]), targets, str(recorded["hash"]))
    # pydantic takes 15 MB and 80 ms that a later start does not need.
    from edge_asr_deploy.bundle.manifest import bundle_hash, read_manifest
    from edge_asr_deploy.bundle.verification import verify as verify_bundle

    if note is None:
        return _known((verify_bundle if verify else read_manifest)(bundle), None)
    try:
        # Before the files are read: what changes meanwhile must not be taken for verified.
        stamps = _stamps(bundle)
        manifest = verify_bundle(bundle)
    except (UserError, OSError):
        if verify:
            raise
        return _known(read_manifest(bundle), None)
    found = _known(manifest, bundle_hash(manifest))
    with suppress(OSError):
        write_index(note, {**dataclasses.asdict(found), "stamps": stamps})
        _prune(note.parent)
    return found


def _known(manifest: Manifest, digest: str | None) -> Verified:
    targets = {name: (graphs.encoder, graphs.decoder) for name, graphs in manifest.targets.items()}
    return Verified(manifest.family, targets, digest)


def _note(root: Path, bundle: Path) -> Path | None:
    """Named by the folder's device and inode, which need no hash: a bundle that is replaced gets another."""
    try:
        status = bundle.stat()
    except OSError:
        return None
    return root / "verified" / f"{status.st_dev:x}-{status.st_ino:x}.json"


def _stamps(bundle: Path) -> dict[str, Stamp]:
    return {path.relative_to(bundle).as_posix(): stamp(path) for path in _files(bundle)}


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)


def _prune(folder: Path) -> None:
    notes = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in notes[:-NOTES]:
        path.unlink(missing_ok=True)
