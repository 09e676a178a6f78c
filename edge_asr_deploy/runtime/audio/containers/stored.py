"""The bytes of a file by position, and the part of it that one recording takes."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import IO

# Bytes that are read at once: many headers of small pages and frames, and little for a file that has only one.
BLOCK = 1 << 16
# No pattern that is searched for is longer.
LONGEST_PATTERN = 64


class Refused(Exception):
    """The recording cannot be read: the text says why and what helps. Whoever knows the file puts its name in front."""


@dataclass(frozen=True)
class Part:
    """One recording: the bytes `start` to `stop` of a file, read behind `header`, which mends a wrong one.

    `note` says what was mended, to the person who asked for the recording.
    """

    start: int
    stop: int
    header: bytes = b""
    note: str = ""


class Stored:
    """The bytes of an open file. A block of them is kept, so that reading small pieces in order is fast."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.size = file.seek(0, io.SEEK_END)
        self._from, self._block = 0, b""

    def at(self, position: int, length: int) -> bytes:
        """The bytes at a position: fewer than `length` at the end of the file."""
        begin = position - self._from
        if begin < 0 or begin + length > len(self._block):
            self._from, self._block, begin = position, self.read(position, max(length, BLOCK)), 0
        return self._block[begin : begin + length]

    def read(self, position: int, length: int) -> bytes:
        """The same, without keeping a block."""
        if position >= self.size:
            # A header may name positions that the system cannot even seek to.
            return b""
        self.file.seek(position)
        return self.file.read(length)

    def find(self, pattern: re.Pattern[bytes], start: int, stop: int | None = None) -> int | None:
        """Where a pattern begins first at `start` or later, and before `stop`. None when it is not there."""
        stop = self.size if stop is None else stop
        while start < stop:
            # Blocks overlap, because a match may begin in one and end in the next.
            match = pattern.search(self.read(start, 16 * BLOCK + LONGEST_PATTERN))
            if match is not None and match.start() < 16 * BLOCK:
                return start + match.start() if start + match.start() < stop else None
            start += 16 * BLOCK
        return None


class Section(io.RawIOBase):
    """A part of a file as a file of its own, for libsndfile."""

    def __init__(self, file: IO[bytes], part: Part) -> None:
        self._file, self._part, self._position = file, part, 0
        self._size = len(part.header) + part.stop - part.start

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be read from anywhere."""
        return True

    def tell(self) -> int:
        """The position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position, counted from the beginning, from here or from the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: object) -> int:
        """Fill a buffer as far as there are bytes: first those of the header, then those of the file."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        header = self._part.header[self._position : self._position + len(view)]
        view[: len(header)] = header
        done, wanted = len(header), min(len(view), self._size - self._position)
        while done < wanted:
            self._file.seek(self._part.start + self._position + done - len(self._part.header))
            content = self._file.read(wanted - done)
            if not content:
                break
            view[done : done + len(content)] = content
            done += len(content)
        self._position += done
        return done
