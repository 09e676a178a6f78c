"""Codes of any width in bytes without waste, and the standard operators that take them apart again.

A width is a sum of planes of 4, 2 and 1 bits (3 = 2 + 1, 5 = 4 + 1, 6 = 4 + 2, 7 = 4 + 2 + 1). A plane of p bits holds
8 / p codes in each byte: the packed axis is cut into 8 / p equal runs, and run r lies at bit r * p of the bytes. So
unpacking a plane is one shift, broadcast over the runs, and one mask: no transposition, no gather. All of it is folded
by onnxruntime when a session is created. 8-bit codes are bytes as they are.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edge_asr_deploy.graph.onnx_tools.builder import Builder

# Every run must be whole: the packed axis is padded to a multiple of this.
MULTIPLE = 8


def planes_of(bits: int) -> tuple[int, ...]:
    """Widths of the planes that hold codes of `bits` bits, lowest bits of the code first."""
    if not 1 <= bits <= 8:
        raise ValueError(f"codes have 1 to 8 bits, not {bits}")
    return (8,) if bits == 8 else tuple(width for width in (4, 2, 1) if bits & width)


def pack(codes: NDArray[np.uint8], bits: int, axis: int) -> list[NDArray[np.uint8]]:
    """Pack codes (0 .. 2**bits - 1) along `axis`: one array of bytes per plane of `planes_of(bits)`.

    The axis is padded with zeros to a multiple of 8 first (not for 8 bits); a plane of p bits is 8 / p times shorter
    along it.
    """
    if codes.size and int(codes.max()) >> bits:
        raise ValueError(f"code {int(codes.max())} does not fit {bits} bits")
    length = codes.shape[axis]
    padding = [(0, 0)] * codes.ndim
    padding[axis] = (0, 0 if bits == 8 else -length % MULTIPLE)
    remaining = np.pad(codes, padding)
    planes = []
    for width in planes_of(bits):
        runs = np.split(remaining & np.uint8((1 << width) - 1), 8 // width, axis=axis)
        plane = np.zeros_like(runs[0])
        for number, run in enumerate(runs):
            plane |= run << np.uint8(number * width)
        planes.append(plane)
        remaining = remaining >> np.uint8(width) if width < 8 else remaining
    return planes


def store(builder: Builder, codes: NDArray[np.uint8], bits: int, axis: int, name: str) -> list[ir.Value]:
    """`pack` into initializers; each plane gets an axis of 1 before `axis`, where `unpack_nodes` lays out its runs."""
    planes = pack(codes, bits, axis)
    return [builder.constant(np.expand_dims(plane, axis), f"{name}{number}") for number, plane in enumerate(planes)]


def unpack_nodes(
    builder: Builder, planes: list[ir.Value], bits: int, axis: int, length: int, trailing: tuple[int, ...] = ()
) -> ir.Value:
    """The inverse of `pack` as ONNX operators on uint8: per plane BitShift, BitwiseAnd and Reshape, then BitwiseOr.

    `planes` as from `store`, or rows of them. `axis` is the packed one in the result; the sizes of the axes before it
    may be unknown, those behind it are `trailing`.
    """
    codes: ir.Value | None = None
    shift = 0
    for width, plane in zip(planes_of(bits), planes, strict=True):
        part = plane
        if width < 8:
            shifts = np.arange(0, 8, width, dtype=np.uint8).reshape(-1, *([1] * (1 + len(trailing))))
            part = builder.op("BitShift", plane, builder.constant(shifts), direction="RIGHT")
            part = builder.op("BitwiseAnd", part, _byte(builder, (1 << width) - 1))
        part = builder.op("Reshape", part, builder.integers(*[0] * axis, -1, *trailing))
        if shift:
            part = builder.op("BitShift", part, _byte(builder, shift), direction="LEFT")
        codes = part if codes is None else builder.op("BitwiseOr", codes, part)
        shift += width
    assert codes is not None
    return _cut(builder, codes, bits, axis, length)


def float_nodes(builder: Builder, planes: list[ir.Value], bits: int, length: int) -> ir.Value:
    """The same as `unpack_nodes` with axis 2 behind (batch, rows), but in float32: for operators of every step.

    onnxruntime's BitwiseAnd and BitwiseOr take 9 and 16 instructions per element. Instead, bits are isolated by
    shifting left and right, and combined as floats.
    """
    codes: ir.Value | None = None
    shift = 0
    for width, plane in zip(planes_of(bits), planes, strict=True):
        part = plane
        if width < 8:
            lost = np.arange(8 - width, -1, -width, dtype=np.uint8).reshape(-1, 1)
            part = builder.op("BitShift", part, builder.constant(lost), direction="LEFT")
            part = builder.op("BitShift", part, _byte(builder, 8 - width), direction="RIGHT")
        part = builder.op("Reshape", part, builder.integers(0, 0, -1))
        part = builder.op("Cast", part, to=ir.DataType.FLOAT)
        if codes is None:
            codes = part
        else:
            weight = builder.constant(np.array(2**shift, dtype=np.float32))
            codes = builder.op("Add", codes, builder.op("Mul", part, weight))
        shift += width
    assert codes is not None
    return _cut(builder, codes, bits, 2, length)


def _cut(builder: Builder, codes: ir.Value, bits: int, axis: int, length: int) -> ir.Value:
    """Without the padding of `pack`."""
    if length % MULTIPLE and bits < 8:
        bounds = [builder.integers(bound) for bound in (0, length, axis)]
        codes = builder.op("Slice", codes, *bounds)
    return codes


def _byte(builder: Builder, value: int) -> ir.Value:
    return builder.constant(np.array(value, dtype=np.uint8))
