"""`manifest.json`: what a bundle's files are, their hashes, and where the model came from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

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


def _plain(name: str) -> str:
    """A path below the bundle's folder, as an export writes it: nothing absolute, no way up, no control characters."""
    parts = name.split("/")
    if not all(parts) or {".", ".."} & set(parts) or "\\" in name or not name.isprintable():
        raise ValueError(f"{name[:80]!r} is no plain name below the bundle's folder")
    return name


PlainName = Annotated[str, AfterValidator(_plain)]


class Graphs(_Model):
    """The model files of a bundle that one target runs; several targets may share a file."""

    encoder: PlainName = "encoder_model.onnx"
    decoder: PlainName = "decoder_model_merged.onnx"


class FileEntry(_Model):
    """A file of the bundle: its hash and its size in bytes."""

    sha256: str
    size: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """The entry of a file on disk, which is read whole."""
        with path.open("rb") as file:
            return cls(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size=path.stat().st_size)


class Manifest(_Model):
    """The contents of `manifest.json`. `BundleWriter.commit` fills `files` and `seal`."""

    schema_version: Literal[1, 2] = 2
    name: str
    family: Literal["whisper", "moonshine"]
    model: Model
    recipe: dict[str, Any]
    versions: dict[str, str]
    calibration: CalibrationRecord | None = None
    layers: list[Layer] = Field(default_factory=list, description="as the first target runs them")
    targets: dict[str, Graphs] = Field(default_factory=lambda: {"generic": Graphs()}, description="by name")
    files: dict[PlainName, FileEntry] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    layout: str | None = Field(None, description="the engine that the files are arranged for; None: a bundle")
    created: str
    seal: str = Field(UNSEALED, description="sha256 of manifest.json as written with 64 zeros in this place")

    @model_serializer(mode="wrap")
    def _without_what_bundles_lack(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Only an arranged bundle names a layout, so that other manifests and their hashes stay as they were."""
        said: dict[str, Any] = write(self)
        if self.layout is None:
            said.pop("layout", None)
        return said


def read_manifest(folder: Path) -> Manifest:
    """Read `manifest.json` without checking any hash. UserError when it is no bundle or a broken one."""
    if not os.path.isdir(folder):
        raise UserError("bundle", folder, "no such folder; make one with `edge-deploy export`")
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(
            "bundle", folder, f"has no {MANIFEST}, so it is not a bundle; make one with `edge-deploy export`"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError("bundle", path, f"{where or 'the file'} is broken ({first['msg']}); export it again") from None
    except OSError as error:
        raise UserError("bundle", path, f"cannot be read ({error.strerror})") from None


def bundle_hash(manifest: Manifest) -> str:
    """sha256 over the whole manifest but the card's hash, the time of the export and the seal.

    Bundles of one hash run the same files for the same targets, and say the same of themselves. `earlier_hash` is what
    results of earlier versions name.
    """
    said = manifest.model_dump(mode="json", exclude={"created", "seal", "schema_version"})
    said["files"].pop(CARD, None)
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def earlier_hash(manifest: Manifest) -> str:
    """The hash that version 0.1 gave a bundle: over the names and hashes of its files but the card."""
    lines = (f"{entry.sha256}  {name}\n" for name, entry in sorted(manifest.files.items()) if name != CARD)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def own_files(folder: Path) -> list[str]:
    """The paths of a bundle's own files, relative to its folder; a card that was deleted is none of them.

    Of a folder that is to become a bundle, and has no manifest yet, these are all files.
    """
    if not (folder / MANIFEST).exists():
        return list(file_names(folder))
    names = (MANIFEST, *read_manifest(folder).files)
    return [name for name in names if name != CARD or (folder / CARD).is_file()]


def file_names(folder: Path) -> Iterator[str]:
    """The paths of all files below a bundle's folder, relative to it."""
    return (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
