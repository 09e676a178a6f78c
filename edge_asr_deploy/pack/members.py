"""The members of a .tar.gz, read as a stream within budgets: no small file takes memory or time without end.

Python's `tarfile` reads an extended header of any size into memory, and fills the holes of sparse members with zeros.
Here a header is read by itself (`TarInfo.frombuf`), and only plain files and names longer than a header holds are let
through: what `pack` writes. The format: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html
"""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK = tarfile.BLOCKSIZE
CHUNK = 1 << 20
# A pack has a bundle's dozen files and some 30 wheels.
MOST_MEMBERS = 10_000
# The largest Whisper in float takes 6.2 GB.
LARGEST = 32_000_000_000
# Weights and wheels hardly shrink. Zeros shrink to a thousandth, so 32 GB of them fit into 32 MB.
HIGHEST_RATIO = 50
# Below this many bytes no ratio counts: text of a few MB may be all the same.
FREE_OF_RATIO = 50_000_000
# An extended header holds a name, of at most 4096 bytes on Linux, and perhaps a size.
LARGEST_HEADER = 64_000


class Refused(Exception):
    """The archive holds what `pack` never writes; the text says what, the name which member."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        super().__init__(reason)


@dataclass(frozen=True)
class Member:
    """A plain file of the archive. `content` yields its bytes, and is read before the next member is asked for."""

    name: str
    size: int
    content: Iterator[bytes]


class _Stream:
    """The unpacked bytes of a .gz, counted. EOFError where they end too early; gzip's own sums are checked."""

    def __init__(self, path: Path) -> None:
        self._packed = path.stat().st_size
        self._file = gzip.open(path)  # noqa: SIM115
        self._count = 0

    def close(self) -> None:
        self._file.close()

    def some(self, most: int) -> bytes:
        """At most so many bytes; none at the end."""
        data = self._file.read(most)
        self._count += len(data)
        if self._count > LARGEST:
            raise Refused("", f"unpacks to more than {LARGEST / 1e9:.0f} GB")
        if self._count > max(FREE_OF_RATIO, HIGHEST_RATIO * self._packed):
            raise Refused("", f"unpacks to more than {HIGHEST_RATIO} times its size")
        return data

    def chunks(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes."""
        while size:
            data = self.some(min(size, CHUNK))
            if not data:
                raise EOFError("unexpected end of data")
            size -= len(data)
            yield data

    def exactly(self, size: int) -> bytes:
        return b"".join(self.chunks(size))


def members(path: Path) -> Iterator[Member]:
    """The members of an archive in their order, to its very end.

    Refused for what `pack` does not write; EOFError, OSError, zlib.error or tarfile.TarError for a damaged archive.
    """
    stream = _Stream(path)
    try:
        count, extended = 0, dict[str, str]()
        while (header := _header(stream)) is not None:
            name = extended.get("path", header.name)
            size = int(extended.get("size", header.size))
            count += 1
            if count > MOST_MEMBERS:
                raise Refused("", f"has more than {MOST_MEMBERS} members")
            if header.type == tarfile.XHDTYPE:
                extended = _extended(stream, header)
                continue
            if header.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or any("sparse" in key for key in extended):
                raise Refused(name, "is a link or no plain file")
            if size < 0 or name.endswith("/"):
                raise Refused(name, "is no plain file")
            content = stream.chunks(size)
            yield Member(name, size, content)
            for _ in content:
                continue
            stream.exactly(-size % BLOCK)
            extended = {}
        while rest := stream.some(CHUNK):
            if rest.strip(b"\0"):
                raise Refused("", "has bytes behind its end")
    finally:
        stream.close()


def _header(stream: _Stream) -> tarfile.TarInfo | None:
    """The next header, whose own sum is right; None at the end, two blocks of zeros."""
    block = stream.exactly(BLOCK)
    if block.strip(b"\0"):
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    if stream.exactly(BLOCK).strip(b"\0"):
        raise tarfile.ReadError("a block of zeros inside")
    return None


def _extended(stream: _Stream, header: tarfile.TarInfo) -> dict[str, str]:
    """The records `LENGTH KEY=VALUE` of an extended header."""
    if not 0 <= header.size <= LARGEST_HEADER:
        raise Refused(header.name, f"is an extended header of {header.size} bytes")
    rest = stream.exactly(header.size)
    stream.exactly(-header.size % BLOCK)
    records = {}
    while rest:
        digits = rest.partition(b" ")[0]
        length = int(digits) if digits.isdigit() and len(digits) < 6 else 0
        record, rest = rest[:length], rest[length:]
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if not record.endswith(b"\n") or not equals or len(record) != length:
            raise tarfile.ReadError("a broken extended header")
        records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
    if "size" in records and not (
        records["size"].isascii() and records["size"].isdigit() and len(records["size"]) < 20
    ):
        raise tarfile.ReadError("a broken extended header")
    return records
