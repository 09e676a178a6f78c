"""A float model on disk, and how to name where it came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Family = Literal["whisper", "moonshine"]


@dataclass(frozen=True)
class Checkpoint:
    """A Transformers folder that `AutoModelForSpeechSeq2Seq.from_pretrained` and Optimum's `main_export` load.

    `origin` tells people where the weights came from; `sha256` is of the source weights as `hash_files` defines it;
    `grid_note` is set when the weights already lie on an 8-bit grid, which flatters every 8-bit result made from them.
    """

    name: str
    family: Family
    folder: Path
    origin: str
    sha256: str
    grid_note: str | None = None


def hash_file(*parts: Path) -> str:
    """sha256 of a file, or of the file that several parts make when they are joined."""
    digest = hashlib.sha256()
    for part in parts:
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def combine(hashes: Mapping[str, str]) -> str:
    """One hash for several files: that of the only file, else the sha256 of the lines `hash  name`, sorted by name."""
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    lines = (f"{sha256}  {name}\n" for name, sha256 in sorted(hashes.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def hash_files(paths: Iterable[Path]) -> str:
    """One hash for the weight files of a folder."""
    return combine({path.name: hash_file(path) for path in paths})


def write_json(path: Path, document: object) -> None:
    """Write a JSON file as Transformers does: indented, UTF-8."""
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
