"""WAV in its four forms: RIFF, RIFX (big-endian), RF64 (beyond 4 GB, EBU Tech 3306) and Sony's Wave64."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from edge_asr_deploy.runtime.audio.containers.magic import WAV, begins, behind_tags
from edge_asr_deploy.runtime.audio.containers.sizes import (
    LARGEST_JUNK,
    MOST_CHUNKS,
    TOO_MANY_CHUNKS,
    is_unknown,
    length_of,
    slack,
)
from edge_asr_deploy.runtime.audio.containers.stored import Part, Refused, Stored

_WAV = re.compile(WAV, re.DOTALL)
_NAME = re.compile(rb"[ -~]{4}")
_WAVE64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
_LONGEST_FORMAT = 1024


@dataclass(frozen=True)
class _Chunk:
    """A chunk: its name, and where its content begins and should end."""

    name: bytes
    start: int
    stop: int


@dataclass(frozen=True)
class _Found:
    """What a header says: `data` are the promised samples, `end` is where the file should end, `form` the format.

    `is_odd` says that libsndfile cannot read the header as it is.
    """

    data: _Chunk
    end: int
    form: bytes
    order: str
    is_odd: bool = False


def scan(file: Stored, start: int) -> tuple[Part, int]:
    """The recording that begins at `start`, and where it ends. Refused when samples are missing."""
    order = ">" if file.at(start, 4) == b"RIFX" else "<"
    found = _header(file, start, order)
    return (Part(start, file.size), file.size) if found is None else _judged(file, start, found)


def scan_wave64(file: Stored, start: int) -> tuple[Part, int]:
    """The same for a Wave64. Its lengths count the chunk's own header, and chunks begin at multiples of 8."""
    end = start + struct.unpack("<Q", file.at(start + 16, 8).ljust(8, b"\0"))[0]
    position, form = start + 40, b""
    for _ in range(MOST_CHUNKS):
        head = file.at(position, 24)
        if len(head) < 24:
            return Part(start, file.size), file.size
        size = max(24, struct.unpack("<Q", head[16:])[0])
        if head[:16] == b"fmt " + _WAVE64_TAIL:
            form = file.at(position + 24, min(size - 24, _LONGEST_FORMAT))
        elif head[:16] == b"data" + _WAVE64_TAIL:
            return _judged(file, start, _Found(_Chunk(b"wave64", position + 24, position + size), end, form, "<"))
        position += size + -size % 8
    raise Refused(TOO_MANY_CHUNKS)


def _header(file: Stored, start: int, order: str) -> _Found | None:
    """Read the chunks up to the samples. None without samples: libsndfile says what such a file is."""
    length = struct.unpack(f"{order}I", file.at(start + 4, 4))[0]
    lengths, form, is_odd = None, b"", file.at(start, 4) == b"BW64"
    position = start + 12
    for chunk in _chunks(file, position, order):
        is_odd |= chunk.start - 8 != position
        position = chunk.stop + chunk.stop % 2
        if chunk.name == b"ds64":
            lengths = struct.unpack("<QQ", file.at(chunk.start, 16).ljust(16, b"\0"))
        elif chunk.name == b"fmt ":
            form = file.at(chunk.start, min(chunk.stop - chunk.start, _LONGEST_FORMAT))
        elif chunk.name == b"data":
            # An RF64 has its lengths in `ds64`, and 2^32-1 in the usual places.
            if lengths and length == 0xFFFFFFFF:
                length = lengths[0]
            if lengths and chunk.stop - chunk.start == 0xFFFFFFFF:
                chunk = _Chunk(b"data", chunk.start, chunk.start + lengths[1])
            return _Found(chunk, start + 8 + length, form, order, is_odd)
    return None


def _chunks(file: Stored, start: int, order: str) -> Iterator[_Chunk]:
    """The chunks from `start` on: name, length, content, padded to an even length.

    Some programs forget the padding: where no name stands behind it, the next chunk begins before it. Refused when
    there are more chunks than a file can need.
    """
    for _ in range(MOST_CHUNKS):
        head = file.at(start, 8)
        if len(head) < 8:
            return
        name, length = struct.unpack(f"{order}4sI", head)
        yield _Chunk(name, start + 8, start + 8 + length)
        start += 8 + length
        if length % 2 and (_NAME.match(file.at(start + 1, 4)) or not _NAME.match(file.at(start, 4))):
            start += 1
    raise Refused(TOO_MANY_CHUNKS)


def _judged(file: Stored, start: int, found: _Found) -> tuple[Part, int]:
    """The recording that begins at `start`, and where it ends: what is there, whatever its header says."""
    begin, promised = found.data.start, found.data.stop - found.data.start
    empty_end = None if promised else _end_of_chunks(file, begin, 0, found.order)
    if empty_end is not None:
        return Part(start, empty_end), empty_end
    if not promised or begin + promised > file.size:
        # The length is of no use, so the samples end where another recording begins.
        follows = file.find(_WAV, begin)
        end = file.size if follows is None else follows
        length, note = end - begin, ""
        if not is_unknown(promised):
            is_whole = begin < found.end and abs(found.end - end) <= slack(begin - start)
            length, note = length_of(promised, length, begin - start, is_whole)
    else:
        length, note, end = _with_trailing(file, found)
    if note or found.is_odd:
        return Part(begin, begin + length, _wav(found, length), note), end
    return Part(start, end), end


def _with_trailing(file: Stored, found: _Found) -> tuple[int, str, int]:
    """Bytes of samples, a note, and where the recording ends, given what stands behind the promised samples.

    A recorder writes its header from time to time; switched off, it leaves samples behind those that were promised.
    """
    begin, stop = found.data.start, found.data.stop
    if found.data.name == b"wave64":
        places = (stop, stop + -stop % 8, found.end)
        return stop - begin, "", next((place for place in places if begins(file, place)), file.size)
    end = _end_of_chunks(file, stop, (stop - begin) % 2, found.order)
    if end is not None:
        return stop - begin, "", end
    extra = file.size - stop
    # Zeros fill the last block of a disk, or a length that was reserved.
    if extra <= LARGEST_JUNK or not any(file.read(stop, LARGEST_JUNK)):
        return stop - begin, "", file.size
    return file.size - begin, f"its header promises {extra} bytes less than there are; all of them were read", file.size


def _end_of_chunks(file: Stored, start: int, padding: int, order: str) -> int | None:
    """Where the chunks that begin here end: at another recording, at a tag or with the file. None for no chunks."""
    for place in (start, start + padding):
        if place >= file.size or _is_beyond(file, place):
            return place
    start += padding
    for chunk in _chunks(file, start, order):
        if _is_beyond(file, chunk.start - 8):
            return chunk.start - 8
        if not _NAME.fullmatch(chunk.name) or chunk.stop > file.size:
            return None
    return file.size


def _is_beyond(file: Stored, place: int) -> bool:
    """Whether another recording or a tag begins here."""
    return begins(file, place) or behind_tags(file, place) > place


def _wav(found: _Found, length: int) -> bytes:
    """The header of a WAV with so many bytes of samples. libsndfile reads to the end of the file for 2^32-1."""
    size = min(length, 0xFFFFFFFF)
    form = struct.pack(f"{found.order}4sI", b"fmt ", len(found.form)) + found.form + bytes(len(found.form) % 2)
    total = min(4 + len(form) + 8 + length, 0xFFFFFFFF)
    magic = b"RIFX" if found.order == ">" else b"RIFF"
    return (
        struct.pack(f"{found.order}4sI", magic, total)
        + b"WAVE"
        + form
        + struct.pack(f"{found.order}4sI", b"data", size)
    )
