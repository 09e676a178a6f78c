"""AIFF, AIFF-C, Sun's AU and Apple's CAF: the other containers of plain samples that have a length in their header."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from edge_asr_deploy.runtime.audio.containers.magic import begins
from edge_asr_deploy.runtime.audio.containers.sizes import (
    MOST_CHUNKS,
    TOO_MANY_CHUNKS,
    is_unknown,
    length_of,
    slack,
)
from edge_asr_deploy.runtime.audio.containers.stored import Part, Refused, Stored

# Offset and block size, which stand between the header of `SSND` and its samples.
SSND_FIELDS = 8
AU_HEADER = 24
CAF_HEADER, CAF_CHUNK = 8, 12


@dataclass(frozen=True)
class _Common:
    """The chunk `COMM`: channels, frames, bits, rate and, in AIFF-C, the compression."""

    content: bytes

    def with_frames_of(self, length: int) -> bytes:
        """The same with the number of frames in `length` bytes of plain samples."""
        channels, _, bits = struct.unpack(">HIH", self.content[:8])
        frames = length // max(1, channels * ((bits + 7) // 8))
        return self.content[:2] + struct.pack(">I", frames) + self.content[6:]


def scan_aiff(file: Stored, start: int) -> tuple[Part, int]:
    """The recording that begins at `start`, and where it ends. Refused when samples are missing."""
    end = start + 8 + struct.unpack(">I", file.at(start + 4, 4))[0]
    position, common = start + 12, b""
    for _ in range(MOST_CHUNKS):
        head = file.at(position, 8)
        if len(head) < 8:
            return Part(start, file.size), file.size
        name, size = struct.unpack(">4sI", head)
        if name == b"COMM":
            common = file.at(position + 8, min(size, 1024))
        elif name == b"SSND":
            break
        position += 8 + size + size % 2
    else:
        raise Refused(TOO_MANY_CHUNKS)
    begin, promised = position + 8 + SSND_FIELDS, max(0, size - SSND_FIELDS)
    there = max(0, file.size - begin)
    if is_unknown(promised) and promised > there:
        return Part(start, file.size), file.size
    is_whole = begin < end and abs(end - file.size) <= slack(begin - start)
    # Without a length the frames of COMM say whether there are any samples.
    if not promised and common[2:6] == bytes(4) and is_whole:
        return Part(start, file.size), file.size
    length, note = length_of(promised, there, begin - start, is_whole)
    if note and len(common) >= 18:
        return Part(begin, begin + length, _aiff(file.at(start + 8, 4), common, length), note), file.size
    follows = (place for place in (begin + length, begin + length + length % 2, end) if begins(file, place))
    stop = next(follows, file.size)
    return Part(start, stop, note=note), stop


def _aiff(form: bytes, common: bytes, length: int) -> bytes:
    """The header of an AIFF with so many bytes of samples."""
    common = _Common(common).with_frames_of(length)
    described = struct.pack(">4sI", b"COMM", len(common)) + common + bytes(len(common) % 2)
    samples = struct.pack(">4sIII", b"SSND", length + SSND_FIELDS, 0, 0)
    return struct.pack(">4sI", b"FORM", 4 + len(described) + len(samples) + length) + form + described + samples


def scan_au(file: Stored, start: int) -> tuple[Part, int]:
    """The same for an AU: magic, where the samples begin, their length (2^32-1 where it is not known)."""
    order = ">" if file.at(start, 4) == b".snd" else "<"
    head = file.at(start, AU_HEADER)
    if len(head) < AU_HEADER:
        return Part(start, file.size), file.size
    offset, promised = struct.unpack(f"{order}II", head[4:12])
    begin = start + offset
    there = max(0, file.size - begin)
    if is_unknown(promised) and promised > there:
        return Part(start, file.size), file.size
    length, note = length_of(promised, there, offset)
    if note:
        mended = head[:4] + struct.pack(f"{order}II", AU_HEADER, length) + head[12:]
        return Part(begin, begin + length, mended, note), file.size
    stop = begin + length if begins(file, begin + length) else file.size
    return Part(start, stop), stop


def scan_caf(file: Stored, start: int) -> tuple[Part, int]:
    """The same for a CAF: chunks with lengths of 64 bits (-1 where it is not known), big-endian."""
    position = start + CAF_HEADER
    for _ in range(MOST_CHUNKS):
        head = file.at(position, CAF_CHUNK)
        if len(head) < CAF_CHUNK:
            return Part(start, file.size), file.size
        name, size = struct.unpack(">4sQ", head)
        if name == b"data":
            break
        position += CAF_CHUNK + size
    else:
        raise Refused(TOO_MANY_CHUNKS)
    begin = position + CAF_CHUNK
    there = max(0, file.size - begin)
    if is_unknown(size):
        return Part(start, file.size), file.size
    length, note = length_of(size, there, begin - start)
    if note:
        mended = file.read(start, position - start) + struct.pack(">4sQ", b"data", length)
        return Part(begin, begin + length, mended, note), file.size
    stop = begin + length
    while stop < file.size and not begins(file, stop):
        head = file.at(stop, CAF_CHUNK)
        stop = stop + CAF_CHUNK + struct.unpack(">4sQ", head)[1] if len(head) == CAF_CHUNK else file.size
    return Part(start, min(stop, file.size)), stop
