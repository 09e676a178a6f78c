"""Ogg: pages with a checksum, in streams that may follow each other (RFC 3533)."""

from __future__ import annotations

import re
import zlib

from edge_asr_deploy.runtime.audio.containers.stored import Part, Refused, Stored

HEADER = 27
_PAGE = re.compile(rb"OggS\x00[\x00-\x07]")
_FIRST_OF_STREAM = 2
# Ogg's checksum takes the bits of a byte from the other end than zlib's, and begins and ends without an inversion.
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def scan(file: Stored, start: int) -> tuple[Part, int]:
    """The stream that begins at `start`, and where it ends: chained streams have their own headers.

    Refused for a page that is cut short or that has another checksum than it says: the decoder leaves such pages out.
    """
    position, has_content = start, False
    while position < file.size:
        header = file.at(position, HEADER)
        if header[:4] != b"OggS"[: len(header)]:
            if file.find(_PAGE, position) is None:
                break
            raise Refused(f"is damaged (bytes from {position} on are no Ogg page); copy or record it again")
        table = file.at(position + HEADER, header[26]) if len(header) == HEADER else b""
        length = HEADER + (header[26] + sum(table) if len(header) == HEADER else 0)
        if position + length > file.size:
            missing = position + length - file.size
            raise Refused(f"is cut short ({missing} bytes are missing); copy or record it again")
        if not header[5] & _FIRST_OF_STREAM:
            has_content = True
        elif has_content:
            return Part(start, position), position
        if checksum(file.at(position, length)) != int.from_bytes(header[22:26], "little"):
            raise Refused(f"is damaged (the Ogg page at byte {position} has a wrong checksum); copy or record it again")
        position += length
    return Part(start, file.size), file.size


def checksum(page: bytes) -> int:
    """The CRC-32 of a page (polynomial 0x04c11db7) with its own field taken as 0.

    zlib has the same polynomial, mirrored: so are the bytes here, and then the result.
    """
    mirrored = (page[:22] + bytes(4) + page[26:]).translate(_MIRRORED)
    value = zlib.crc32(mirrored, 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(value.to_bytes(4, "little").translate(_MIRRORED), "big")
