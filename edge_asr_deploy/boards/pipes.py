"""Pipes to a process that may do anything: nothing is waited for without end, no line is longer than it may be."""

from __future__ import annotations

import os
import select
import time


class Stuck(Exception):
    """The other end neither wrote nor read for too long, or wrote a line without end; the text says which."""


class Lines:
    """Reads lines from a file descriptor. None stands for its end."""

    def __init__(self, source: int, longest: int) -> None:
        self._source, self._longest = source, longest
        self._buffer = bytearray()
        self._searched = 0

    def next(self, seconds: float) -> bytes | None:
        """The next line without its end. Stuck when nothing arrives for `seconds`, or the line is too long."""
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            if self._searched > self._longest:
                raise Stuck(f"sent a line of more than {self._longest / 1e6:.0f} MB")
            if not select.select([self._source], [], [], seconds)[0]:
                raise Stuck(f"sent nothing for {seconds:.0f} s")
            data = os.read(self._source, 1 << 18)
            if not data:
                return None
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line


def write_all(sink: int, data: bytes, seconds: float) -> None:
    """Write to a file descriptor that does not block. Stuck when the other end takes nothing for `seconds`."""
    left = memoryview(data)
    deadline = time.monotonic() + seconds
    while left:
        try:
            left = left[os.write(sink, left) :]
            deadline = time.monotonic() + seconds
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Stuck(f"took nothing for {seconds:.0f} s") from None
            select.select([], [sink], [], 1.0)
