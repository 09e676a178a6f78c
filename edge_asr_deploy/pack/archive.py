"""`edge-deploy pack`: a bundle and all that runs it, in one archive for boards without internet."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from edge_asr_deploy.bundle.manifest import bundle_hash
from edge_asr_deploy.bundle.verification import verify
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.files import appearing, require_writable
from edge_asr_deploy.pack.requirements import MACHINES, download_wheels, pins, requirements
from edge_asr_deploy.pack.sbom import SBOM, bill_of_materials
from edge_asr_deploy.pack.signing import SIGNATURE, message_of, sign, signature_of, signed
from edge_asr_deploy.pack.wheel import build_wheel

SUMS = "SHA256SUMS"
BUNDLE = "bundle"
WHEELS = "wheels"
REQUIREMENTS = "requirements.txt"
RUN = "run"
SUFFIX = ".tar.gz"


@dataclass(frozen=True)
class Packed:
    """An archive that was written: its sha256, bytes, and the number of wheels besides this package's own.

    `signature` is the file beside it that a key made of it, if one was given.
    """

    archive: str
    sha256: str
    bytes: int
    wheels: int
    signature: str | None = None


def pack(
    bundle: Path,
    output: Path,
    platform: str,
    pythons: Sequence[str],
    wheels: bool,
    overwrite: bool,
    key: Path | None = None,
) -> Packed:
    """Write the archive `output`: bundle, `run` script, wheel list, bill of materials, this package's wheel.

    With `wheels` all wheels are in it. `platform` is a key of `requirements.MACHINES`, `pythons` are versions such as
    `3.11`. Equal inputs give an equal file. With `key`, an SSH key, the bundle in it is signed, and the archive.
    UserError for a damaged bundle, a platform or name that cannot be, an archive that is there (unless `overwrite`), a
    key that cannot sign, wheels that cannot be had and a full disk; the archive appears whole or not at all.
    """
    if platform not in MACHINES:
        raise UserError("--platform", platform, f"choose {' or '.join(MACHINES)}")
    if not output.name.endswith(SUFFIX) or output.name == SUFFIX:
        raise UserError("--output", output, f"give the archive a name that ends in {SUFFIX}")
    if output.exists() and not overwrite:
        raise UserError("--output", output, "exists already; add --overwrite to replace it")
    require_writable("--output", output)
    manifest = verify(bundle)
    signature = signed(message_of(bundle_hash(manifest)), key) if key else None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        needed = download_wheels(platform, pythons, folder) if wheels else []
        packed_wheels = [*needed, build_wheel(folder)]
        contents: dict[str, Path | bytes] = {
            SBOM: bill_of_materials(manifest, pins(platform), packed_wheels),
            RUN: run_script(platform, pythons, wheels),
            REQUIREMENTS: requirements(platform).encode(),
            **{f"{WHEELS}/{path.name}": path for path in packed_wheels},
            **{f"{BUNDLE}/{name}": bundle / name for name in ("manifest.json", *manifest.files)},
        }
        if signature is not None:
            contents[f"{BUNDLE}/{SIGNATURE}"] = signature
        # The signature of an archive that is replaced would be of other bytes.
        signature_of(output).unlink(missing_ok=True)
        _write(output, output.name.removesuffix(SUFFIX), contents)
    with output.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    beside = str(sign(output, key)) if key else None
    return Packed(str(output), sha256, output.stat().st_size, len(needed), beside)


def run_script(platform: str, pythons: Sequence[str], wheels: bool) -> bytes:
    """The `run` script. Without wheels it installs from the board's index, for any Python that the index serves."""
    text = resources.files("edge_asr_deploy.pack").joinpath("run.sh").read_text(encoding="utf-8")
    named = " ".join(pythons)
    other = f'fail "python3 is ${{version%-*}}, the wheels are for {named}; pack it again with --python"'
    values = {
        "HOW": "from the wheels here, without internet" if wheels else "with packages of the board's index",
        "PYTHONS": named if wheels else "3.11 or newer",
        "MACHINE": MACHINES[platform],
        "INDEX": '--no-index --find-links "$here/wheels"' if wheels else "",
        "OTHER_PYTHON": other if wheels else ":",
    }
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text.encode()


def _write(output: Path, top: str, contents: Mapping[str, Path | bytes]) -> None:
    """Write a .tar.gz whose bytes depend on names and contents only; the hash list comes first."""
    sums = "".join(f"{_sha256(contents[name])}  {name}\n" for name in sorted(contents))
    try:
        with (
            appearing(output) as file,
            gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            _add(archive, f"{top}/{SUMS}", sums.encode())
            for name in sorted(contents):
                _add(archive, f"{top}/{name}", contents[name])
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError("disk full", output.parent, "free some space; nothing was written") from None
        raise UserError("--output", output, f"cannot be written ({error.strerror})") from None


def _add(archive: tarfile.TarFile, name: str, content: Path | bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = 0o755 if name.endswith(f"/{RUN}") else 0o644
    if isinstance(content, bytes):
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
        return
    entry.size = content.stat().st_size
    with content.open("rb") as file:
        archive.addfile(entry, file)


def _sha256(content: Path | bytes) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
