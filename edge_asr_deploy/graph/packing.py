"""Codes of any width in bytes without waste, and the standard operators that take them apart again.

A width is a sum of planes of 4, 2 and 1 bits (3 = 2 + 1, 5 = 4 + 1, 6 = 4 + 2, 7 = 4 + 2 + 1). A plane of p bits holds
8 / p codes in each byte: the packed axis is cut into 8 / p equal runs, and run r lies at bit r * p of the bytes. So
unpacking is one shift and one mask per run and a concatenation: no transposition, no gather, and all of it is folded
by onnxruntime when a session is created. 8-bit codes are bytes as they are.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edge_asr_deploy.graph.builder import Builder

# Every run must be whole: the packed axis is padded to a multiple of this.
MULTIPLE = 8


def planes_of(bits: int) -> tuple[int, ...]:
    """Widths of the planes that hold codes of `bits` bits, lowest bits of the code first."""
    if not 1 <= bits <= 8:
        raise ValueError(f"codes have 1 to 8 bits, not {bits}")
    return (8,) if bits == 8 else tuple(width for width in (4, 2, 1) if bits & width)


def pack(codes: NDArray[np.uint8], bits: int, axis: int) -> list[NDArray[np.uint8]]:
    """Pack codes (0 .. 2**bits - 1) along `axis`: one array of bytes per plane of `planes_of(bits)`.

    The axis is padded with zeros to a multiple of 8 first (not for 8 bits); a plane of p bits is 8 / p times shorter along it.
    """
    if codes.size and int(codes.max()) >> bits:
        raise ValueError(f"code {int(codes.max())} does not fit {bits} bits")
    length = codes.shape[axis]
    padding = [(0, 0)] * codes.ndim
    padding[axis] = (0, 0 if bits == 8 else -length % MULTIPLE)
    remaining = np.pad(codes, padding)
    planes = []
    for width in planes_of(bits):
        runs = np.split(remaining & ((1 << width) - 1), 8 // width, axis=axis)
        plane = np.zeros_like(runs[0])
        for number, run in enumerate(runs):
            plane |= run << (number * width)
        planes.append(plane)
        remaining = remaining >> width if width < 8 else remaining
    return planes


def unpack(planes: list[NDArray[np.uint8]], bits: int, axis: int, length: int) -> NDArray[np.uint8]:
    """The inverse of `pack`; `length` is that of `axis` before padding."""
    codes: NDArray[np.uint8] | None = None
    shift = 0
    for width, plane in zip(planes_of(bits), planes, strict=True):
        runs = [(plane >> (number * width)) & ((1 << width) - 1) for number in range(8 // width)]
        part = np.concatenate(runs, axis=axis) << shift
        codes = part if codes is None else codes | part
        shift += width
    assert codes is not None
    return np.take(codes, np.arange(length), axis=axis)


def unpack_nodes(builder: Builder, planes: list[ir.Value], bits: int, axis: int, length: int) -> ir.Value:
    """`unpack` as ONNX operators on uint8 values: BitShift, BitwiseAnd, Concat, BitwiseOr, and Slice if padded."""
    codes: ir.Value | None = None
    shift = 0
    for width, plane in zip(planes_of(bits), planes, strict=True):
        part = _unpack_plane(builder, plane, width, axis)
        if shift:
            part = builder.op("BitShift", part, _byte(builder, shift), direction="LEFT")
        codes = part if codes is None else builder.op("BitwiseOr", codes, part)
        shift += width
    assert codes is not None
    if length % MULTIPLE and bits < 8:
        bounds = [builder.integers(bound) for bound in (0, length, axis)]
        codes = builder.op("Slice", codes, *bounds)
    return codes


def _unpack_plane(builder: Builder, plane: ir.Value, width: int, axis: int) -> ir.Value:
    if width == 8:
        return plane
    mask = _byte(builder, (1 << width) - 1)
    runs = []
    for number in range(8 // width):
        moved = plane if not number else builder.op("BitShift", plane, _byte(builder, number * width), direction="RIGHT")
        # The highest run has nothing above it to mask away.
        last = number == 8 // width - 1
        runs.append(moved if last else builder.op("BitwiseAnd", moved, mask))
    return builder.op("Concat", *runs, axis=axis)  # type: ignore[no-any-return]


def _byte(builder: Builder, value: int) -> ir.Value:
    return builder.constant(np.array(value, dtype=np.uint8))
