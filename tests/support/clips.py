"""Sounds that stand for speech, written to disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from tests.support.voice import voice


def sound(seed: int, seconds: float = 0.5) -> NDArray[np.float32]:
    """Samples that a 16-bit file keeps exactly, and that are taken for speech."""
    return voice(seconds, seed)


def write_clips(folder: Path, number: int, seconds: float = 0.5, first: int = 0) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"clip{index}.flac" for index in range(first, first + number)]
    for index, path in enumerate(paths, start=first):
        soundfile.write(path, sound(index, seconds), 16_000)
    return paths


def write_manifest(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def write_set(folder: Path, name: str, number: int, first: int = 0) -> None:
    """A manifest of so many clips, as EDGE_ASR_DATA holds them."""
    paths = write_clips(folder / name, number, first=first)
    rows = [{"id": f"{name}/{p.stem}", "audio": f"{name}/{p.name}", "text": p.stem, "source": name} for p in paths]
    write_manifest(folder / f"{name}.jsonl", rows)
