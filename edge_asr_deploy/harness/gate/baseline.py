"""The record of a good bundle that the gate compares with: a small JSON file, kept in git."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_asr_deploy.bundle.manifest import MANIFEST
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.files import write_output
from edge_asr_deploy.harness.gate.tolerances import Tolerances
from edge_asr_deploy.harness.machine.environment import Environment
from edge_asr_deploy.runtime.options import Margin

FOLDER = "baselines"
SCHEMA: Literal[1] = 1


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class GoldenClip(_Model):
    """The good bundle's transcript of one clip. `fingerprint` is `Utterance.fingerprint()`."""

    id: str
    source: str
    fingerprint: str
    text: str
    tokens: str = Field(description="token ids, separated by spaces")


class PartRatios(_Model):
    """Times divided by those of the float bundle, by the parts of `harness.gate.relative_speed`."""

    encoder: float = Field(gt=0)
    prompt: float = Field(gt=0, description="the decoder's first call")
    step: float = Field(gt=0, description="a later call")


class TargetFiles(_Model):
    """What one target runs: the graphs, and the sha256 of these and of the data files that they read."""

    encoder: str
    decoder: str
    files: dict[str, str] = Field(description="sha256 by name")


class Listening(_Model):
    """The settings with which the clips were transcribed. A check uses the same settings."""

    threads: int = Field(2, ge=1)
    accuracy_level: int | None = Field(None, ge=0, le=4)
    audio_context: Margin = Field(
        None, description="seconds after the clip for Whisper's encoder; auto: the bundle's own; null: its window"
    )
    language: str = "en"


class Baseline(_Model):
    """One bundle's record, `exported/baselines/NAME.json`."""

    schema_version: Literal[1] = SCHEMA
    bundle: str
    bundle_hash: str
    family: Literal["whisper", "moonshine"]
    model: str
    model_sha256: str
    created: str
    environment: Environment
    processor: str | None = Field(None, description="`gate.processor`; null in records of older versions")
    listening: Listening
    speech: str = Field(description="clips by corpus")
    tolerances: Tolerances
    onnx_bytes: int
    wer: float = Field(description="over the clips, for readers; a check counts the errors again")
    layers: dict[str, str] = Field(description="how each weight matrix is stored")
    operators: dict[str, dict[str, int]] = Field(description="by file, after onnxruntime's optimization")
    targets: dict[str, TargetFiles] | None = Field(None, description="null in records of older versions")
    side_files: dict[str, str] = Field(description="sha256 of tokenizer and configuration files")
    speed: dict[str, PartRatios] = Field(description="by processor")
    clips: list[GoldenClip]


def bundle_of(path: Path) -> Path:
    """The bundle's folder, given that folder, its manifest, or its record in `baselines` beside it.

    Version control only knows files, so a list of changed files can name the bundles to be checked.
    """
    if path.name == MANIFEST:
        return path.parent
    if path.suffix == ".json" and path.parent.name == FOLDER:
        return path.parent.parent / path.stem
    return path


def is_ours(path: Path) -> bool:
    """True for what `bundle_of` names a bundle by, False for another program's file of the same name.

    A manifest or a record of ours that is broken is ours all the same: graphs or a bundle lie beside it.
    """
    if path.suffix != ".json":
        return True
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        content = None
    keys = content.keys() if isinstance(content, dict) else set()
    if path.name == MANIFEST:
        return {"family", "recipe", "files"} <= keys or any(path.parent.glob("*.onnx"))
    return {"bundle_hash", "clips"} <= keys or (bundle_of(path) / MANIFEST).is_file()


def baseline_path(bundle: Path, given: Path | None) -> Path:
    """The record's file: `given`, NAME.json in the folder `given`, or NAME.json in `baselines` beside the bundle."""
    folder = bundle.resolve().parent / FOLDER if given is None else given
    return folder / f"{bundle.resolve().name}.json" if given is None or given.is_dir() else folder


def read_baseline(path: Path) -> Baseline:
    """Read a record. UserError when it is missing, malformed or of another schema."""
    remedy = "write a new one with `edge-deploy check BUNDLE --update-baseline`"
    try:
        return Baseline.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError("--baseline", path, f"no such file; {remedy}") from None
    except OSError as error:
        raise UserError("--baseline", path, f"cannot be read ({error.strerror}); check its permissions") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if where == "schema_version":
            reason = f"has schema {first['input']}, but this version reads {SCHEMA}"
        else:
            reason = f"{where or 'the file'} is broken ({first['msg']})"
        raise UserError("--baseline", path, f"{reason}; restore it, or remove it and {remedy}") from None


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a record atomically. UserError when it cannot be written."""
    write_output("--baseline", path, baseline.model_dump_json(indent=1) + "\n")
