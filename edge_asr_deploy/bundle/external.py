"""Which files a graph reads beside itself: found by walking its protobuf, since boards have no onnx package.

Field numbers are those of onnx.proto. Anything else is passed over, weights too, so that a graph takes milliseconds.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

# Message -> field number -> message in it. A tensor's `external_data` holds pairs of key and value.
_MESSAGES = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "pair"},
}
_KEY, _VALUE = 1, 2
# Graphs inside graphs: onnxruntime's own limit is lower, and Python's stack is far higher.
_DEEPEST = 100


def weights_of(bundle: Path, graph: str) -> list[str]:
    """The files that a bundle's graph reads, sorted, named from the bundle's folder as the manifest names files."""
    folder = graph.rpartition("/")[0]
    return sorted(f"{folder}/{location}".removeprefix("/") for location in external_files(bundle / graph))


def external_files(path: Path) -> set[str]:
    """The `location` of every tensor that lies outside the graph. ValueError where the file is no protobuf."""
    if not path.stat().st_size:
        return set()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return set(_locations(content, 0, len(content), "model", 0))


def _locations(content: mmap.mmap, start: int, end: int, kind: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ValueError("graphs are nested too deep")
    inner = _MESSAGES[kind]
    for number, begin, stop in _fields(content, start, end):
        if number not in inner:
            continue
        if inner[number] == "pair":
            pair = {key: content[first:last] for key, first, last in _fields(content, begin, stop)}
            if pair.get(_KEY) == b"location":
                yield pair.get(_VALUE, b"").decode("utf-8", "surrogateescape")
        else:
            yield from _locations(content, begin, stop, inner[number], depth + 1)


def _fields(content: mmap.mmap, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of each field of variable length."""
    while position < end:
        tag, position = varint(content, position, end)
        wire = tag & 7
        if wire == 2:
            length, position = varint(content, position, end)
            if position + length > end:
                raise ValueError("a field is longer than its message")
            yield tag >> 3, position, position + length
            position += length
        elif wire == 0:
            _, position = varint(content, position, end)
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
        else:
            raise ValueError(f"a field has the wire type {wire}")


def varint(content: mmap.mmap | memoryview, position: int, end: int) -> tuple[int, int]:
    """The number at a position, and where what follows it begins. ValueError where none ends before `end`."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise ValueError("it ends inside a number")
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number has more than ten bytes")
