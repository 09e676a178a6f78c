"""Protobuf field by field, read and written: boards have no onnx package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edge_asr_deploy.bundle.external import varint


@dataclass(frozen=True)
class Field:
    """One field of a message: its number, its value, and its bytes with the tag."""

    number: int
    value: int
    """Of a number; 0 for others."""
    bytes: memoryview
    """Of text, bytes and messages; empty for others."""
    raw: memoryview

    @property
    def text(self) -> str:
        """The value as text."""
        return str(self.bytes, "utf-8", "surrogateescape")


def fields(message: memoryview) -> Iterator[Field]:
    """The fields of a message, in order. ValueError where it is none."""
    position, end = 0, len(message)
    while position < end:
        start = position
        tag, position = varint(message, position, end)
        value, content = 0, message[:0]
        match tag & 7:
            case 0:
                value, position = varint(message, position, end)
            case 2:
                length, position = varint(message, position, end)
                content, position = message[position : position + length], position + length
            case 1:
                position += 8
            case 5:
                position += 4
            case wire:
                raise ValueError(f"a field has the wire type {wire}")
        if position > end:
            raise ValueError("a field is longer than its message")
        yield Field(tag >> 3, value, content, message[start:position])


def number(field: int, value: int) -> bytes:
    """A field that holds a number."""
    return _encoded(field << 3) + _encoded(value)


def content(field: int, value: bytes | str) -> bytes:
    """A field that holds text, bytes or a message."""
    raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return header(field, len(raw)) + raw


def header(field: int, length: int) -> bytes:
    """What stands before text, bytes or a message of so many bytes."""
    return _encoded(field << 3 | 2) + _encoded(length)


def _encoded(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)
