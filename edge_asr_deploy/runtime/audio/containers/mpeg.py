"""MPEG audio (MP3): frames without a container, in which only the first frame may tell a length."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from functools import lru_cache

from edge_asr_deploy.runtime.audio.containers.magic import behind_tags
from edge_asr_deploy.runtime.audio.containers.stored import Part, Refused, Stored

# Share of the bytes in an Info header that may be missing: encoders differ in whether they count tags and the header's
# own frame. mpg123, which libsndfile decodes MP3 with, warns of such a header from 1 % on, too (`check_lame_tag` in
# libmpg123's parse.c). The decoder's delay of 529 samples plays no part: bytes of the file are compared, not samples.
TOLERANCE = 0.01
# Frames that may be there beyond those that are promised: encoders differ in what they count. 10 are 0.3 s of 44.1 kHz.
FRAMES_TOLERANCE = 10
# Where the header of Fraunhofer's encoder stands in the first frame.
_VBRI_PLACE = 36
_SYNC = re.compile(rb"\xff[\xe2-\xff]")
# Frames in a row that make sure that these bytes are MP3.
_SURE_FRAMES = 3

# ISO 11172-3 and 13818-3: kbit/s by layer for MPEG 1, and for MPEG 2 and 2.5; Hz for MPEG 1.
_BITRATES_1 = {
    1: (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_BITRATES_2 = {
    1: (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    3: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44_100, 48_000, 32_000)


@dataclass(frozen=True)
class _Frame:
    """A frame's header: its length in bytes, where a Xing or Info header would stand in it, and what is decoded."""

    length: int
    info: int
    layer: int
    rate: int
    kilobits: int
    is_mono: bool

    def continues(self, other: _Frame) -> bool:
        """Whether a decoder goes on from one frame to the other: sample rate and channels are the same."""
        return (self.rate, self.is_mono) == (other.rate, other.is_mono)


@dataclass(frozen=True)
class _Frames:
    """The frames of a recording: how many, whether their bit rates differ, and where the bytes behind them begin."""

    number: int
    is_variable: bool
    stop: int


@dataclass(frozen=True)
class _Promised:
    """The numbers in a Xing or Info header: frames without its own, and bytes with it. None where it lacks one."""

    frames: int | None
    bytes: int | None


def is_mpeg(file: Stored, position: int, may_be_cut: bool = False) -> bool:
    """Whether MP3 begins here, perhaps behind a tag: three frames of one kind follow each other.

    With `may_be_cut` fewer are enough where the file ends.
    """
    position = behind_tags(file, position)
    first = frame = _frame(file, position)
    for _ in range(_SURE_FRAMES):
        if first is None or frame is None or not frame.continues(first):
            return False
        position += frame.length
        if may_be_cut and position >= file.size:
            return True
        frame = _frame(file, position)
    return True


def scan(file: Stored, start: int) -> tuple[Part, int]:
    """The recording that begins at `start`, and where it ends. Refused when bytes are missing.

    The decoder reads as many frames as the first one promises; without a promise as many as it guesses from the first
    bit rate, which is wrong where bit rates differ. Such files get another first frame.
    """
    begin = behind_tags(file, start)
    first = _frame(file, begin)
    if first is None:
        return Part(start, file.size), file.size
    frames = _walk(file, begin, first)
    stop = frames.stop
    promised = _promised(file, begin, first)
    if promised is None:
        guesses = frames.is_variable and first.layer == 3 and file.at(begin + _VBRI_PLACE, 4) != b"VBRI"
        if guesses:
            return Part(begin, stop, _info_frame(file, begin, frames.number, stop - begin)), stop
    else:
        missing = 0 if promised.bytes is None else promised.bytes - (stop - begin)
        if promised.bytes is not None and missing > TOLERANCE * promised.bytes:
            raise Refused(f"is cut short ({missing} bytes are missing); copy or record it again")
        more = 0 if promised.frames is None else frames.number - 1 - promised.frames
        if more > FRAMES_TOLERANCE:
            # The promise goes with the first frame.
            begin += first.length
            header = _info_frame(file, begin, frames.number - 1, stop - begin)
            return Part(begin, stop, header, f"it has {more} frames more than it promises; all of them were read"), stop
    # The decoder passes over one tag at the beginning of a file, but not over several.
    return Part(start and begin, stop), stop


def _walk(file: Stored, position: int, first: _Frame) -> _Frames:
    """Pass over all frames of a recording.

    Where one file was written behind another, the second begins with the frame that tells its length, or with another
    kind of frames; a tag in front of it belongs to it.
    """
    frame: _Frame | None = first
    number, is_variable = 0, False
    while frame is not None:
        number += 1
        is_variable |= frame.kilobits != first.kilobits
        behind = position = position + frame.length
        frame = _frame(file, position)
        if frame is None:
            position = _resumed(file, position)
            frame = _frame(file, position)
        is_new = frame and (not frame.continues(first) or _promised(file, position, frame) is not None)
        if is_new and is_mpeg(file, position):
            return _Frames(number, is_variable, behind)
    return _Frames(number, is_variable, file.size)


def _resumed(file: Stored, position: int) -> int:
    """Where frames go on behind tags, or behind bytes that are no audio; the end of the file when they do not."""
    behind = behind_tags(file, position)
    if behind > position and _frame(file, behind):
        return behind
    place = file.find(_SYNC, behind)
    while place is not None and not is_mpeg(file, place):
        place = file.find(_SYNC, place + 1)
    return file.size if place is None else place


def _promised(file: Stored, position: int, frame: _Frame) -> _Promised | None:
    """What the Xing or Info header in a frame promises. None without one."""
    header = file.at(position + frame.info, 16)
    if header[:4] not in (b"Xing", b"Info") or len(header) < 16:
        return None
    flags, *fields = struct.unpack(">3I", header[4:])
    frames = fields.pop(0) if flags & 1 else None
    return _Promised(frames, fields[0] if flags & 2 else None)


def _info_frame(file: Stored, position: int, frames: int, size: int) -> bytes:
    """A frame that promises so many frames and bytes behind it, of the kind of the one at `position`."""
    head = bytearray(file.at(position, 4))
    head[1] |= 1  # No checksum.
    head[2] = 9 << 4 | head[2] & 0b1100  # A bit rate in the middle, no padding.
    frame = _parsed(bytes(head))
    assert frame is not None
    promise = b"Xing" + struct.pack(">3I", 3, frames, size + frame.length)
    return (bytes(head) + bytes(frame.info - 4) + promise).ljust(frame.length, b"\0")


def _frame(file: Stored, position: int) -> _Frame | None:
    """The frame that begins here. None where none does, and for a free bit rate, which has no length."""
    return _parsed(file.at(position, 4))


@lru_cache(maxsize=256)
def _parsed(head: bytes) -> _Frame | None:
    """A frame's header. A file has few that differ."""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE2:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bitrate, rate, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    is_first = version == 3
    hertz = _RATES[rate] >> (0 if is_first else 1 if version == 2 else 2)
    kilobits = (_BITRATES_1 if is_first else _BITRATES_2)[layer][bitrate]
    if layer == 1:
        length = (12_000 * kilobits // hertz + padding) * 4
    else:
        length = (72_000 if layer == 3 and not is_first else 144_000) * kilobits // hertz + padding
    is_mono = head[3] >> 6 == 3
    side = (17 if is_mono else 32) if is_first else (9 if is_mono else 17)
    return _Frame(length, 4 + side, layer, hertz, kilobits, is_mono)
