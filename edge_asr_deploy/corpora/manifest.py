"""JSONL manifests: one JSON object per line, with at least `audio`, a path relative to the manifest's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError


def read_manifest(path: Path, missing_too: bool = False) -> list[Utterance]:
    """The utterances of a manifest, in its order; empty lines are skipped, keys that are not known are allowed.

    Known keys: `audio` (needed), `id` (default: the audio path), `text` (null where there is none), `source` (default:
    the manifest's name), `speaker`, `duration` in seconds, `language`. Whole numbers are names, too. UserError names
    the file, the row (from 1) and the fault; `missing_too` takes rows whose file is not there.
    """
    try:
        # Not `splitlines`: it also splits at characters that JSON allows inside a text, such as U+2028.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise UserError("manifest", path, "no such file; give a .jsonl file of speech") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("manifest", path, f"cannot be read as text ({error}); give a .jsonl file of speech") from None
    utterances: list[Utterance] = []
    rows: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            utterance = _utterance(line, path, missing_too)
            if utterance.id in rows:
                raise ValueError(f"id {utterance.id!r} stands in row {rows[utterance.id]} already")
        except ValueError as error:
            raise UserError("manifest", path, f"row {number}: {error}") from None
        rows[utterance.id] = number
        utterances.append(utterance)
    if not utterances:
        raise UserError("manifest", path, "has no rows; write one JSON object per line, with `audio` and `text`")
    return utterances


def _utterance(line: str, manifest: Path, missing_too: bool) -> Utterance:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(row, dict):
        raise ValueError('is not a JSON object, such as {"audio": "clip.flac", "text": "..."}')
    audio = _field(row, "audio", str)
    if not audio:
        raise ValueError("has no `audio`, the path of a file relative to the manifest")
    path = manifest.parent / audio
    if not missing_too and not path.is_file():
        raise ValueError(f"audio {path} is missing")
    seconds = _field(row, "duration", (int, float))
    return Utterance(
        id=_name(row, "id") or audio,
        audio=path,
        text=_field(row, "text", str),
        source=_name(row, "source") or manifest.stem,
        speaker=_name(row, "speaker"),
        seconds=None if seconds is None else float(seconds),
        language=_field(row, "language", str),
    )


def _name(row: dict[str, Any], key: str) -> str | None:
    """The value of a key that names something: tables and databases often number their clips and speakers."""
    value = row.get(key)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else _field(row, key, str)


def _field(row: dict[str, Any], key: str, kind: type | tuple[type, ...]) -> Any:
    """The value of a key, None where it is null or absent."""
    value = row.get(key)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise ValueError(f"`{key}` is {json.dumps(value)}, not a {'string' if kind is str else 'number'}")
    return value
