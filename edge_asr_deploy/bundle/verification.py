"""Whether a bundle is what its manifest says, byte by byte."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edge_asr_deploy.bundle.manifest import MANIFEST, UNSEALED, FileEntry, Manifest, file_names, read_manifest
from edge_asr_deploy.errors import UserError


def verify(folder: Path) -> Manifest:
    """Check every byte of a bundle against its manifest. UserError names the first missing, extra or changed file."""
    manifest = read_manifest(folder)
    remedy = "export it again, or copy it again from where it came"
    text = (folder / MANIFEST).read_bytes()
    if hashlib.sha256(text.replace(manifest.seal.encode(), UNSEALED.encode(), 1)).hexdigest() != manifest.seal:
        raise UserError("bundle", folder / MANIFEST, f"was changed since the export; {remedy}")
    present = set(file_names(folder)) - {MANIFEST}
    for name in sorted(manifest.files.keys() - present):
        raise UserError("bundle", folder / name, f"is missing; {remedy}")
    for name in sorted(present - manifest.files.keys()):
        raise UserError("bundle", folder / name, "is not in the manifest; remove it, or export again")
    for name, expected in manifest.files.items():
        if (size := (folder / name).stat().st_size) != expected.size:
            raise UserError("bundle", folder / name, f"has {size} bytes, the manifest says {expected.size}; {remedy}")
        if FileEntry.of(folder / name) != expected:
            raise UserError("bundle", folder / name, f"was changed since the export; {remedy}")
    return manifest
