"""JSONL manifests of speech: one JSON object per row, `audio` relative to the manifest's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError


def read_manifest(path: Path) -> list[Utterance]:
    """The utterances of a manifest. Needed key: `audio`; known: `id`, `text`, `source`, `speaker`, `duration`.

    UserError, naming the row, for what is not JSON, lacks `audio`, names a missing file or repeats an id.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError("manifest", path, "no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("manifest", path, f"cannot be read as text ({error})") from None
    utterances: list[Utterance] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        utterance = _utterance(path, number, line)
        if utterance.id in seen:
            raise _broken(path, number, f"the id {utterance.id!r} stands in an earlier row too")
        seen.add(utterance.id)
        utterances.append(utterance)
    if not utterances:
        raise UserError("manifest", path, "is empty; write one JSON object per row")
    return utterances


def _utterance(path: Path, number: int, line: str) -> Utterance:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise _broken(path, number, f"not JSON ({error})") from None
    if not isinstance(row, dict):
        raise _broken(path, number, "not a JSON object")
    audio = _text(path, number, row, "audio")
    if audio is None:
        raise _broken(path, number, "has no `audio`")
    file = path.parent / audio
    if not file.is_file():
        raise _broken(path, number, f"its audio {audio} does not exist beside the manifest")
    seconds = row.get("duration")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0):
        raise _broken(path, number, f"`duration` must be seconds, not {seconds!r}")
    return Utterance(
        id=_text(path, number, row, "id") or audio,
        audio=file,
        text=_text(path, number, row, "text"),
        source=_text(path, number, row, "source") or path.stem,
        speaker=_text(path, number, row, "speaker"),
        seconds=seconds,
    )


def _text(path: Path, number: int, row: dict[str, Any], key: str) -> str | None:
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise _broken(path, number, f"`{key}` must be text, not {value!r}")
    return value


def _broken(path: Path, number: int, reason: str) -> UserError:
    return UserError("manifest", f"{path}, row {number}", f"{reason}; mend or remove the row")
