"""Checks of a Transformers folder: complete, of a supported architecture, with whole weight files."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from edge_asr_deploy.checkpoints.checkpoint import Family
from edge_asr_deploy.errors import UserError

_SAFETENSORS, _PYTORCH = "model.safetensors", "pytorch_model.bin"
_AGAIN = "copy or download it again"
_PROBES = {"whisper": "model.encoder.layers.0.fc1.weight", "moonshine": "model.encoder.layers.0.mlp.fc1.weight"}
LEVELS = 256


def check_folder(folder: Path) -> tuple[Family, list[Path]]:
    """The family of a Transformers folder, and its weight files.

    UserError names what is missing, broken, or of another architecture.
    """
    family = _family(folder)
    weights = _weight_files(folder)
    for path in weights:
        _check_whole(path)
    _check_processor(folder, family)
    return family, weights


def is_complete(folder: Path) -> bool:
    """False for a folder that lacks a file, such as a Hub snapshot of which another program fetched only a part."""
    try:
        check_folder(folder)
    except UserError:
        return False
    return True


def grid_note(family: Family, weights: list[Path]) -> str | None:
    """A note for weights that already lie on an 8-bit grid: a typical matrix has at most 256 different values."""
    if weights[0].suffix != ".safetensors":
        return None
    import numpy as np
    from safetensors import safe_open

    for path in weights:
        with safe_open(path, framework="numpy") as tensors:
            if _PROBES[family] not in tensors.keys() or tensors.get_slice(_PROBES[family]).get_dtype() == "BF16":  # noqa: SIM118
                continue
            values = tensors.get_tensor(_PROBES[family])
            if values.size > LEVELS * LEVELS and len(np.unique(values)) <= LEVELS:
                return "The weights already lie on an 8-bit grid per tensor: 8-bit results made from them flatter."
    return None


def is_transformers(folder: Path) -> bool:
    """True when the folder holds weights in one of Transformers' layouts."""
    names = (_SAFETENSORS, _PYTORCH, f"{_SAFETENSORS}.index.json", f"{_PYTORCH}.index.json")
    return any((folder / name).is_file() for name in names)


def _family(folder: Path) -> Family:
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(
            "--model", folder, "has no config.json, so it is no checkpoint; give the folder of a Whisper or Moonshine"
        )
    kind = _read_json(path).get("model_type")
    if kind == "whisper":
        return "whisper"
    if kind == "moonshine":
        return "moonshine"
    raise UserError("--model", folder, f"its model_type is {kind!r}; only whisper and moonshine can be exported")


def _weight_files(folder: Path) -> list[Path]:
    for name in (_SAFETENSORS, _PYTORCH):
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            shards = _read_json(index).get("weight_map")
            if not isinstance(shards, dict) or not shards:
                raise UserError("--model", index, f"names no weight files; {_AGAIN}")
            paths = [folder / str(shard) for shard in sorted(set(shards.values()))]
            for path in paths:
                if not path.is_file():
                    raise UserError("--model", path, f"is missing, though {index.name} names it; {_AGAIN}")
            return paths
    raise UserError("--model", folder, f"has no weights ({_SAFETENSORS} or {_PYTORCH}); {_AGAIN}")


def _check_whole(path: Path) -> None:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy"):
                return
        except (SafetensorError, OSError) as error:
            raise UserError("--model", path, f"is cut short or corrupt ({error}); {_AGAIN}") from None
    # torch writes zip files, whose table of contents is at the end; older versions wrote pickles.
    with path.open("rb") as file:
        is_pickle = file.read(1) == b"\x80"
    if not is_pickle and not zipfile.is_zipfile(path):
        raise UserError("--model", path, f"is cut short or corrupt; {_AGAIN}")


def _check_processor(folder: Path, family: Family) -> None:
    has_slow = family == "whisper" and (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    if not (folder / "tokenizer.json").is_file() and not has_slow:
        raise UserError("--model", folder, "has no tokenizer.json; copy it from the model this one was trained from")
    if not any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json")):
        remedy = "copy it from the model this one was trained from"
        raise UserError("--model", folder, f"has no preprocessor_config.json; {remedy}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError("--model", path, f"cannot be read as JSON ({error}); {_AGAIN}") from None
    if not isinstance(document, dict):
        raise UserError("--model", path, f"is no JSON object; {_AGAIN}")
    return document
