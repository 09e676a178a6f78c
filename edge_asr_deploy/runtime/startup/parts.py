"""Nodes and tensors of a graph as protobuf holds them; the numbers of fields and types are those of onnx.proto."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.runtime.startup.protobuf import content, fields, number

# Operators that unpack codes, scales and zero points (`graph.storing`).
UNPACKING = frozenset(
    (
        *("Add", "BitShift", "BitwiseAnd", "BitwiseOr", "Cast", "Concat", "Expand"),
        *("Mul", "Reshape", "Slice", "Squeeze", "Sub", "Transpose", "Unsqueeze"),
    )
)
# Types of onnx by NumPy's names; those of 4 bits NumPy has not.
TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10}
FOUR_BITS = (21, 22)


@dataclass(frozen=True)
class Node:
    """An operator: its bytes, what it reads and makes, and the names that its branches read."""

    raw: memoryview
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    captured: frozenset[str]
    unpacks: bool
    """What it makes of constants is computed here."""


@dataclass(frozen=True)
class Tensor:
    """An initializer: the fields of its description, and where its bytes lie."""

    raw: memoryview
    name: str
    size: int
    """Of its bytes."""
    head: bytes
    """Dimensions, type and name as fields."""
    data: memoryview | None
    place: tuple[str, int] | None
    """File and offset of bytes that lie outside; None with `data` None: in other fields."""


def node_of(raw: memoryview) -> Node:
    """Read a NodeProto."""
    inputs, outputs, captured, kind, to = [], [], set(), "", 0
    for part in fields(raw):
        match part.number:
            case 1:
                inputs.append(part.text)
            case 2:
                outputs.append(part.text)
            case 4:
                kind = part.text
            case 5:
                attribute = list(fields(part.bytes))
                if any(one.number == 1 and one.text == "to" for one in attribute):
                    to = next(one.value for one in attribute if one.number == 3)
                for one in attribute:
                    if one.number == 6:
                        captured |= _read_in(one.bytes)
    unpacks = kind in UNPACKING and to not in FOUR_BITS
    return Node(raw, kind, tuple(inputs), tuple(outputs), frozenset(captured), unpacks)


def _read_in(graph: memoryview) -> set[str]:
    """All names that a branch reads, its own and those of the graph around it."""
    names: set[str] = set()
    for part in fields(graph):
        if part.number == 1:
            node = node_of(part.bytes)
            names |= {*node.inputs, *node.captured}
        elif part.number == 12:
            names.add(name_of(part.bytes))
    return names


def name_of(raw: memoryview) -> str:
    """Of an input or an output."""
    return next(part.text for part in fields(raw) if part.number == 1)


def name_of_tensor(raw: memoryview) -> str:
    """Of an initializer."""
    return next(part.text for part in fields(raw) if part.number == 8)


def tensor_of(raw: memoryview) -> Tensor:
    """Read a TensorProto."""
    parts = list(fields(raw))
    data = next((part.bytes for part in parts if part.number == 9), None)
    pairs = {}
    for part in parts:
        if part.number == 13:
            key, value = (one.text for one in fields(part.bytes))
            pairs[key] = value
    place = (pairs["location"], int(pairs.get("offset", 0))) if "location" in pairs else None
    size = int(pairs["length"]) if place else len(data if data is not None else raw)
    head = b"".join(bytes(part.raw) for part in parts if part.number in (1, 2, 8))
    return Tensor(raw, name_of_tensor(raw), size, head, None if place else data, place)


def head_of(name: str, array: NDArray[np.generic]) -> bytes:
    """Dimensions, type and name of a tensor, as fields."""
    return b"".join(number(1, size) for size in array.shape) + number(2, TYPES[array.dtype.name]) + content(8, name)
