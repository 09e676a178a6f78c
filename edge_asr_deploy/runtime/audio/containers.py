"""Detects audio files that were cut short, from their containers. libsndfile does not report this."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import BinaryIO

# Programs that write to a pipe do not know the length: ffmpeg writes 2^32-1, sox 0x7ffff000, arecord 2^31.
UNKNOWN_LENGTH = 0x7FFFF000
# Share of the bytes in an Info header that may be missing: encoders differ in whether they count tags and the header's
# own frame. mpg123, which libsndfile decodes MP3 with, warns of such a header from 1 % on, too (`check_lame_tag` in
# libmpg123's parse.c). The decoder's delay of 529 samples plays no part: bytes of the file are compared, not samples.
MP3_TOLERANCE = 0.01


def missing_bytes(path: Path) -> int:
    """How many bytes a WAV, OGG or MP3 file lacks according to its own headers; 0 for a complete file.

    Also 0 if the container does not state a length: WAV from a pipe, MP3 without an Info header, and other formats (a
    FLAC decoder notices a cut itself). The decoder reports damaged headers. OSError when the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic in (b"RIFF", b"RIFX"):
            return _riff(file, size, "<" if magic == b"RIFF" else ">")
        if magic == b"OggS":
            return _ogg(file, size)
        return _mp3(file, size)


def _riff(file: BinaryIO, size: int, order: str) -> int:
    """Chunks of (name, size, content padded to even); the samples are in `data`."""
    position = 12
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack(f"{order}4sI", file.read(8))
        if name == b"data":
            return 0 if length >= UNKNOWN_LENGTH else max(0, position + 8 + length - size)
        position += 8 + length + length % 2
    return 0


def _ogg(file: BinaryIO, size: int) -> int:
    """Pages of a 27-byte header, a table of segment lengths, and the segments (RFC 3533)."""
    position = 0
    while position < size:
        file.seek(position)
        header = file.read(27)
        if header[:4] != b"OggS"[: len(header)]:
            return 0
        table = file.read(header[26]) if len(header) == 27 else b""
        position += 27 + (header[26] + sum(table) if len(header) == 27 else 0)
    return position - size


def _mp3(file: BinaryIO, size: int) -> int:
    """The Xing/Info header in the first frame holds the number of bytes from that frame to the end of the audio."""
    start = 0
    head = file.read(10)
    if head[:3] == b"ID3" and len(head) == 10:
        # Four bytes of seven bits each.
        start = 10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    file.seek(start)
    frame = file.read(256)
    header = re.search(rb"^\xff[\xe2-\xff].{2,40}?(?:Xing|Info)(.{12})", frame, re.DOTALL)
    if header is None:
        return 0
    flags, *fields = struct.unpack(">3I", header[1])
    if not flags & 2:
        return 0
    promised = fields[1] if flags & 1 else fields[0]
    missing = start + promised - os.fstat(file.fileno()).st_size
    return missing if missing > MP3_TOLERANCE * promised else 0
