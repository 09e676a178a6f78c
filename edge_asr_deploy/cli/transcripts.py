"""Transcripts as `transcribe` prints them or writes them to files: text, JSON, subtitles."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.files import write_output
from edge_asr_deploy.printing import one_line
from edge_asr_deploy.runtime.transcript import Segment, Word
from edge_asr_deploy.subtitles import srt, tsv, vtt

# What an unnamed file is called: `-` is standard input.
STANDARD_INPUT = "stdin"


class Format(StrEnum):
    """How transcripts are written."""

    TXT = "txt"
    JSON = "json"
    JSONL = "jsonl"
    SRT = "srt"
    VTT = "vtt"
    TSV = "tsv"


SUBTITLES = {Format.SRT: srt, Format.VTT: vtt, Format.TSV: tsv}


def rendered(row: Mapping[str, Any], form: Format) -> str:
    """The content of a transcript's file; `row` is its JSON object. Text has a line for each segment."""
    if form in SUBTITLES:
        return SUBTITLES[form](segments_of(row))
    if form is Format.TXT:
        lines = [segment.text for segment in segments_of(row)] or [row["text"]]
        return "".join(f"{one_line(line)}\n" for line in lines)
    indent = 1 if form is Format.JSON else None
    return json.dumps(row, indent=indent, ensure_ascii=False) + "\n"


def segments_of(row: Mapping[str, Any]) -> list[Segment]:
    """The segments of a transcript's JSON object; none where it comes from an earlier version."""
    return [
        Segment(
            **{
                **segment,
                # A bundle's tokenizer may hold any character.
                "text": one_line(segment["text"]),
                "tokens": tuple(segment["tokens"]),
                "words": tuple(Word(**word) for word in segment["words"]),
            }
        )
        for segment in row.get("segments", ())
    ]


def require_names(folder: Path | None, form: Format, files: Iterable[Path]) -> None:
    """UserError, before any work, where files cannot be written to a folder, or subtitles cannot be told apart."""
    stems = Counter(_stem(str(file)) for file in files)
    if folder is None:
        if form in SUBTITLES and stems.total() > 1:
            raise UserError("--format", form.value, "is for one file; give --output-dir to get a file for each")
        return
    if twice := [stem for stem, number in stems.items() if number > 1]:
        raise UserError("--output-dir", folder, f"two files would be written to {twice[0]}.{form}; rename one")
    if folder.exists() and not folder.is_dir():
        raise UserError("--output-dir", folder, "is a file; name a folder")


def write(folder: Path, file: str, row: Mapping[str, Any], form: Format, board: str | None = None) -> None:
    """Write the transcript of a file to the folder, under its name; several boards have files of their own."""
    parts = [_stem(file), *([board] if board else []), form.value]
    write_output("--output-dir", folder / ".".join(parts), rendered(row, form).encode("utf-8", "backslashreplace"))


def _stem(file: str) -> str:
    return STANDARD_INPUT if file == "-" else Path(file).stem
