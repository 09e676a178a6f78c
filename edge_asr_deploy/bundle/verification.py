"""Whether a bundle is what its manifest says, byte by byte."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path

from edge_asr_deploy.bundle.external import weights_of
from edge_asr_deploy.bundle.manifest import CARD, MANIFEST, UNSEALED, FileEntry, Manifest, earlier_hash, read_manifest
from edge_asr_deploy.bundle.side_files import SIDE_FILES
from edge_asr_deploy.errors import Note, UserError


def verify(folder: Path) -> Manifest:
    """Check every byte of a bundle that this program runs. UserError as of `verify_files`, and for another layout."""
    manifest = verify_files(folder)
    require_own_layout(folder, manifest)
    return manifest


def require_own_layout(folder: Path, manifest: Manifest) -> None:
    """UserError for a folder that is arranged for another engine."""
    if manifest.layout is not None:
        remedy = f"is arranged for {manifest.layout}; give the bundle that it was made from"
        raise UserError("bundle", folder, remedy)


def verify_files(folder: Path) -> Manifest:
    """Check every byte that a bundle of any layout is made of against its manifest. UserError names the first bad file.

    The card may be edited, and files that no engine reads may lie beside the bundle's own: what Git, a Hub download or
    a Mac leaves there. A file that an engine would read by its name, though the export wrote none, is refused.
    """
    manifest = read_manifest(folder)
    remedy = "export it again, or copy it again from where it came"
    text = (folder / MANIFEST).read_bytes()
    if hashlib.sha256(text.replace(manifest.seal.encode(), UNSEALED.encode(), 1)).hexdigest() != manifest.seal:
        raise UserError("bundle", folder / MANIFEST, f"was changed since the export; {remedy}")
    files = {name: entry for name, entry in manifest.files.items() if name != CARD}
    for name in sorted(files):
        if not (folder / name).is_file():
            raise UserError("bundle", folder / name, f"is missing; {remedy}")
    for name in sorted({*SIDE_FILES} - files.keys()):
        if os.path.lexists(folder / name):
            raise UserError("bundle", folder / name, "is not in the manifest; remove it, or export again")
    for name, expected in files.items():
        if (size := (folder / name).stat().st_size) != expected.size:
            raise UserError("bundle", folder / name, f"has {size} bytes, the manifest says {expected.size}; {remedy}")
        if FileEntry.of(folder / name) != expected:
            raise UserError("bundle", folder / name, f"was changed since the export; {remedy}")
    _check_graphs(folder, manifest)
    if manifest.schema_version == 1:
        said = f"{folder}: its manifest is of version 1, whose hash left out what runs for which target"
        warnings.warn(Note(f"{said}; results of that time name {earlier_hash(manifest)[:16]}..."), stacklevel=2)
    return manifest


def _check_graphs(folder: Path, manifest: Manifest) -> None:
    """UserError for a target or a graph that names a file which no hash covers."""
    for target, graphs in manifest.targets.items():
        for name in (graphs.encoder, graphs.decoder):
            if name not in manifest.files:
                said = f"target {target} runs {name}, which is not among its hashed files"
                raise UserError("bundle", folder / MANIFEST, f"{said}; export it again")
    for name in manifest.files:
        if not name.endswith(".onnx"):
            continue
        try:
            weights = weights_of(folder, name)
        except ValueError as error:
            raise UserError("bundle", folder / name, f"is no ONNX file ({error}); export it again") from None
        for file in weights:
            if file not in manifest.files:
                said = f"reads weights from {file!r}, which is not among the bundle's hashed files"
                raise UserError("bundle", folder / name, f"{said}; export it again")
