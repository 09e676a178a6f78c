"""Remembers bundles whose every byte was verified, so that later starts need not read unchanged files again."""

from __future__ import annotations

import dataclasses
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_asr_deploy.bundle.side_files import SIDE_FILES
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.startup.cache import Stamp, read_index, stamp, startup_root, write_index

if TYPE_CHECKING:
    from edge_asr_deploy.bundle.manifest import Manifest

# The number of notes that are kept, 2 kB each. Beyond it, the oldest are removed.
NOTES = 256
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Verified:
    """The part of a bundle's manifest that a start needs. `targets` has the encoder and decoder file of each target.

    `contents` has a hash for each graph, over its own bytes and those of the weights that it reads, and for
    `tokenizer.json`: what is derived from a file is cached by that hash. It is empty if the files differ from the
    manifest, or if the bundle has not been verified yet.
    """

    family: str
    targets: dict[str, tuple[str, str]]
    contents: dict[str, str]


def verified_bundle(bundle: Path, verify: bool) -> Verified:
    """Verify a bundle, now or through the note of an earlier start. UserError when it is damaged.

    Without `verify`, files that differ from the manifest are accepted. A missing or broken manifest is always an error.
    """
    root = startup_root()
    note = None if root is None else _note(root, bundle)
    if note is not None:
        recorded = read_index(note)
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            if _is_unchanged(bundle, recorded["stamps"]):
                targets = {name: (str(first), str(second)) for name, (first, second) in recorded["targets"].items()}
                return Verified(str(recorded["family"]), targets, dict(recorded["contents"]))
    # Imported only here: these modules load pydantic, 15 MB and 80 ms that a later start does not need.
    from edge_asr_deploy.bundle.manifest import CARD, MANIFEST, read_manifest
    from edge_asr_deploy.bundle.verification import verify as verify_bundle

    if note is None:
        manifest = verify_bundle(bundle) if verify else read_manifest(bundle)
        return _verified(bundle, manifest, {})
    try:
        # The stamps are read before the files, so that a file which changes meanwhile does not count as verified.
        names = read_manifest(bundle).files.keys() - {CARD}
        stamps = {name: stamp(bundle / name) for name in sorted({MANIFEST, *names})}
        manifest = verify_bundle(bundle)
    except (UserError, OSError):
        if verify:
            raise
        return _verified(bundle, read_manifest(bundle), {})
    verified = _verified(bundle, manifest, _contents(bundle, manifest))
    with suppress(OSError):
        write_index(note, {**dataclasses.asdict(verified), "stamps": stamps})
        _prune(note.parent)
    return verified


def _verified(bundle: Path, manifest: Manifest, contents: dict[str, str]) -> Verified:
    from edge_asr_deploy.bundle.verification import require_own_layout

    require_own_layout(bundle, manifest)
    targets = {name: (graphs.encoder, graphs.decoder) for name, graphs in manifest.targets.items()}
    return Verified(manifest.family, targets, contents)


def _contents(bundle: Path, manifest: Manifest) -> dict[str, str]:
    import hashlib

    from edge_asr_deploy.bundle.external import weights_of

    contents = {}
    for name in {name for graphs in manifest.targets.values() for name in (graphs.encoder, graphs.decoder)}:
        lines = (f"{manifest.files[part].sha256}  {part}\n" for part in (name, *weights_of(bundle, name)))
        contents[name] = hashlib.sha256("".join(lines).encode()).hexdigest()
    if TOKENIZER in manifest.files:
        contents[TOKENIZER] = manifest.files[TOKENIZER].sha256
    return contents


def _note(root: Path, bundle: Path) -> Path | None:
    """The note's path: named by the folder's device and inode, which change when a bundle is replaced."""
    try:
        status = bundle.stat()
    except OSError:
        return None
    return root / "verified" / f"{status.st_dev:x}-{status.st_ino:x}.json"


def _is_unchanged(bundle: Path, stamps: dict[str, Stamp]) -> bool:
    """Whether the files are as they were, and none has come that an engine would read by its name."""
    return all(stamp(bundle / name) == recorded for name, recorded in stamps.items()) and not any(
        os.path.lexists(bundle / name) for name in SIDE_FILES if name not in stamps
    )


def _prune(folder: Path) -> None:
    notes = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in notes[:-NOTES]:
        path.unlink(missing_ok=True)
