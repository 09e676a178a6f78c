"""What came out: a folder of files and a `manifest.json` that names, hashes and explains them.

A bundle appears all at once or not at all: it is written to a hidden sibling folder and renamed into place.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_asr_deploy.errors import UserError

MANIFEST = "manifest.json"
# The model card. It tells of measurements, so it is no part of what was measured.
CARD = "README.md"
UNSEALED = "0" * 64


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Model(_Model):
    """The float model a bundle was made from; `sha256` is of its source weights."""

    name: str
    origin: str
    sha256: str
    grid_note: str | None = None


class CalibrationRecord(_Model):
    """The speech the statistics came from; the fingerprints are `Utterance.fingerprint()`."""

    description: str
    number: int
    seed: int
    fingerprint: str
    utterance_fingerprints: list[str]


class Layer(_Model):
    """How one weight matrix is stored. `error`: relative, of its output where calibrated, else its own.

    `effective_bits` per weight count codes, scales, zero points and outliers with their places. `outliers` is the
    number of weights that a hybrid method keeps finer than `bits`; with `float_columns` they are that many input
    channels, computed in float beside the codes.
    """

    name: str
    component: str
    method: str
    bits: int
    group: int | None = None
    symmetric: bool | None = None
    shape: list[int]
    bytes: int
    error: float | None = None
    effective_bits: float | None = None
    outliers: int | None = None
    float_columns: int | None = None
    float_products: int = 0
    activations: Literal["float", "int8-dynamic", "int8-static", "int8-token"] = "float"
    storage: Literal["plain", "two-level"] = "plain"


class Graphs(_Model):
    """The model files of a bundle that one target runs; several targets may share a file."""

    encoder: str = "encoder_model.onnx"
    decoder: str = "decoder_model_merged.onnx"


class FileEntry(_Model):
    """A file of the bundle: its hash and its size in bytes."""

    sha256: str
    size: int


class Manifest(_Model):
    """The contents of `manifest.json`. `BundleWriter.commit` fills `files` and `seal`."""

    schema_version: Literal[1] = 1
    name: str
    family: Literal["whisper", "moonshine"]
    model: Model
    recipe: dict[str, Any]
    versions: dict[str, str]
    calibration: CalibrationRecord | None = None
    layers: list[Layer] = Field(default_factory=list, description="as the first target runs them")
    targets: dict[str, Graphs] = Field(default_factory=lambda: {"generic": Graphs()}, description="by name")
    files: dict[str, FileEntry] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    created: str
    seal: str = Field(UNSEALED, description="sha256 of manifest.json as written with 64 zeros in this place")


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
        self.folder = self._sibling("partial")
        self._check_destination()

    def __enter__(self) -> Self:
        try:
            self.destination.parent.mkdir(parents=True, exist_ok=True)
            self._clear_stale()
            self.folder.mkdir()
        except OSError as error:
            raise _as_user_error(self.destination, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if error is not None and _disk_is_full(error):
            raise _as_user_error(self.destination, error) from error

    def commit(self, manifest: Manifest) -> Manifest:
        """Hash every file in `folder`, write the manifest, flush to disk and rename into place.

        Returns the manifest as written, with `files` and `seal` filled in.
        """
        files = {name: _entry(self.folder / name) for name in sorted(_file_names(self.folder)) if name != MANIFEST}
        manifest = _sealed(manifest.model_copy(update={"files": files, "seal": UNSEALED}))
        (self.folder / MANIFEST).write_text(_dump(manifest), encoding="utf-8")
        for path in (*self.folder.rglob("*"), self.folder):
            _flush(path)
        self._rename_into_place()
        return manifest

    def _rename_into_place(self) -> None:
        self._check_destination()
        aside = self._sibling("old")
        replaces = self.destination.exists()
        try:
            if replaces:
                os.rename(self.destination, aside)
            os.rename(self.folder, self.destination)
        except BaseException:
            if aside.exists() and not self.destination.exists():
                os.rename(aside, self.destination)
            raise
        _flush(self.destination.parent)
        if replaces:
            shutil.rmtree(aside, ignore_errors=True)

    def _sibling(self, role: str) -> Path:
        return self.destination.with_name(f".{self.destination.name}.{role}-{os.getpid()}")

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
        """Remove what killed writers left; where one was killed between its two renames, put the old bundle back.

        A folder of this process's own id counts as stale: in a container every run may have the same id.
        """
        pattern = re.compile(re.escape(f".{self.destination.name}.") + r"(partial|old)-(\d+)")
        for path in sorted(self.destination.parent.iterdir()):
            match = pattern.fullmatch(path.name)
            if match is None or (int(match[2]) != os.getpid() and psutil.pid_exists(int(match[2]))):
                continue
            if match[1] == "old" and not self.destination.exists():
                os.rename(path, self.destination)
                self._check_destination()
            else:
                shutil.rmtree(path, ignore_errors=True)


def read_manifest(folder: Path) -> Manifest:
    """Read `manifest.json` without checking any hash. UserError when it is no bundle or a broken one."""
    if not folder.is_dir():
        raise UserError("bundle", folder, "no such folder; make one with `edge-deploy export`")
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(
            "bundle", folder, f"has no {MANIFEST}, so it is not a bundle; make one with `edge-deploy export`"
        )
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError("bundle", path, f"{where or 'the file'} is broken ({first['msg']}); export it again") from None
    except OSError as error:
        raise UserError("bundle", path, f"cannot be read ({error.strerror})") from None


def verify(folder: Path) -> Manifest:
    """Check every byte of a bundle against its manifest. UserError names the first missing, extra or changed file."""
    manifest = read_manifest(folder)
    remedy = "export it again, or copy it again from where it came"
    text = (folder / MANIFEST).read_bytes()
    if hashlib.sha256(text.replace(manifest.seal.encode(), UNSEALED.encode(), 1)).hexdigest() != manifest.seal:
        raise UserError("bundle", folder / MANIFEST, f"was changed since the export; {remedy}")
    present = set(_file_names(folder)) - {MANIFEST}
    for name in sorted(manifest.files.keys() - present):
        raise UserError("bundle", folder / name, f"is missing; {remedy}")
    for name in sorted(present - manifest.files.keys()):
        raise UserError("bundle", folder / name, "is not in the manifest; remove it, or export again")
    for name, expected in manifest.files.items():
        if (size := (folder / name).stat().st_size) != expected.size:
            raise UserError("bundle", folder / name, f"has {size} bytes, the manifest says {expected.size}; {remedy}")
        if _entry(folder / name) != expected:
            raise UserError("bundle", folder / name, f"was changed since the export; {remedy}")
    return manifest


def bundle_hash(manifest: Manifest) -> str:
    """sha256 over the names and hashes of a bundle's files but the card: equal for bundles that do the same."""
    lines = (f"{entry.sha256}  {name}\n" for name, entry in sorted(manifest.files.items()) if name != CARD)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _dump(manifest: Manifest) -> str:
    return manifest.model_dump_json(indent=1) + "\n"


def _sealed(manifest: Manifest) -> Manifest:
    return manifest.model_copy(update={"seal": hashlib.sha256(_dump(manifest).encode()).hexdigest()})


def _file_names(folder: Path) -> Iterator[str]:
    return (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def _entry(path: Path) -> FileEntry:
    with path.open("rb") as file:
        return FileEntry(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size=path.stat().st_size)


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
