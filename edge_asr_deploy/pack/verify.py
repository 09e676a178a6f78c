"""`edge-deploy verify`: whether an archive or a bundle is unchanged since it was made. Nothing is unpacked."""

from __future__ import annotations

import hashlib
import re
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from edge_asr_deploy.bundle.manifest import MANIFEST, Manifest, bundle_hash
from edge_asr_deploy.bundle.verification import verify_files
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.pack.archive import BUNDLE, RUN, SUMS
from edge_asr_deploy.pack.members import Refused, members
from edge_asr_deploy.pack.signing import SIGNATURE, check_signature, message_of, signature_of

_REMEDY = "pack it again, or copy it again from where it came"
# Hash list and manifest are read into memory, up to this size.
_LARGEST_TEXT = 16_000_000
# Letters of a member's name in a message.
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Verified:
    """An intact archive or bundle. `sha256`: of the archive, or `bundle_hash`; compare it with the maker's.

    `signer` is the name that the allowed signers give to who signed it; None when that was not asked.
    """

    name: str
    sha256: str
    files: int
    signer: str | None = None


def verify(path: Path, allowed_signers: Path | None = None) -> Verified:
    """Check every byte of an archive against its hash list and its bundle's manifest, or a bundle against its manifest.

    The hash list finds damage. A change of both a file and the list is found only by comparing the maker's sha256, or
    by a signature: with `allowed_signers` (ssh-keygen's file of them) one of them must have signed it.
    UserError names the first fault: cut short, no such archive, a member outside its folder, a link, a device, a name
    twice, more than an archive may hold, a missing, extra or changed file, or no good signature.
    """
    if path.is_dir():
        manifest = verify_files(path)
        digest = bundle_hash(manifest)
        signer = _signer(path, message_of(digest), allowed_signers)
        return Verified(str(path), digest, len(manifest.files) + 1, signer)
    if not path.is_file():
        raise UserError("archive", path, "no such file or folder; make one with `edge-deploy pack`")
    try:
        hashes, texts = _members(path)
    except Refused as fault:
        if not fault.name:
            raise UserError("archive", path, f"{fault}; do not unpack this archive") from None
        raise _fault(path, fault.name, f"{fault}; do not unpack this archive") from None
    except (EOFError, zlib.error, tarfile.TarError, OSError) as error:
        raise UserError("archive", path, f"is cut short, damaged or no .tar.gz ({error}); {_REMEDY}") from None
    _compare(path, hashes, texts)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Verified(str(path), sha256, len(hashes), _signer(path, path, allowed_signers))


def _signer(path: Path, message: Path | bytes, allowed: Path | None) -> str | None:
    return check_signature(path, message, signature_of(path), allowed) if allowed else None


def _members(path: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    """sha256 of every member, by its path below the archive's one folder; and the contents of the two lists."""
    hashes: dict[str, str] = {}
    texts: dict[str, bytes] = {}
    top = None
    for member in members(path):
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts or str(name) != member.name or "\\" in member.name:
            raise _fault(path, member.name, "would be unpacked outside its folder; do not unpack this archive")
        top = top or name.parts[0]
        inner = "/".join(name.parts[1:])
        if name.parts[0] != top or not inner:
            raise _fault(path, member.name, f"lies outside the folder `{top}`; do not unpack this archive")
        if inner in hashes:
            raise _fault(path, member.name, f"is in the archive twice; {_REMEDY}")
        is_text = inner in (SUMS, f"{BUNDLE}/{MANIFEST}")
        if is_text and member.size > _LARGEST_TEXT:
            raise _fault(path, member.name, f"has {member.size} bytes, which is too much for a list; {_REMEDY}")
        digest = hashlib.sha256()
        text = bytearray()
        for chunk in member.content:
            digest.update(chunk)
            if is_text:
                text += chunk
        hashes[inner] = digest.hexdigest()
        if is_text:
            texts[inner] = bytes(text)
    return hashes, texts


def _compare(path: Path, hashes: dict[str, str], texts: dict[str, bytes]) -> None:
    if SUMS not in texts:
        raise UserError("archive", path, f"has no {SUMS}, so it is no pack; make one with `edge-deploy pack`")
    listed: dict[str, str] = {}
    for line in texts[SUMS].decode(errors="replace").removesuffix("\n").split("\n"):
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if match is None:
            raise _fault(path, SUMS, f"has a line that is no hash; {_REMEDY}")
        listed[match[2]] = match[1]
    for name in sorted(listed.keys() - hashes.keys()):
        raise _fault(path, name, f"is missing; {_REMEDY}")
    for name in sorted(hashes.keys() - listed.keys() - {SUMS}):
        raise _fault(path, name, f"is not in {SUMS}; {_REMEDY}")
    for name, sha256 in listed.items():
        if hashes[name] != sha256:
            raise _fault(path, name, f"was changed since it was packed; {_REMEDY}")
    manifest = f"{BUNDLE}/{MANIFEST}"
    if manifest not in texts or RUN not in hashes:
        raise _fault(path, manifest if manifest not in texts else RUN, f"is missing; {_REMEDY}")
    try:
        files = Manifest.model_validate_json(texts[manifest]).files
    except ValidationError as error:
        raise _fault(path, manifest, f"is broken ({error.errors()[0]['msg']}); {_REMEDY}") from None
    packed = {
        name.removeprefix(f"{BUNDLE}/"): sha256 for name, sha256 in hashes.items() if name.startswith(f"{BUNDLE}/")
    }
    wanted = {name: entry.sha256 for name, entry in files.items()}
    for name in sorted((packed.keys() | wanted.keys()) - {MANIFEST, SIGNATURE}):
        if packed.get(name) != wanted.get(name):
            raise _fault(path, f"{BUNDLE}/{name}", f"is not what the bundle's manifest says; {_REMEDY}")


def _fault(path: Path, member: str, reason: str) -> UserError:
    return UserError("archive", f"{path}: {member[:_LONGEST_NAME]}", reason)
