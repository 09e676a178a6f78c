"""Matrices with outliers as operators: the codes stay in a low-bit kernel, whatever is kept beside them.

Float input channels (QUIK) are gathered and multiplied apart: y = x W_codes + x[kept] W_kept, where W_codes is exactly
0 in the kept channels. Single weights on a finer grid (SpQR) are scattered over the widened codes by operators that
onnxruntime folds when the session is created: the kernel is one for 8 bits then, and there is no other product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edge_asr_deploy.graph.builder import Builder
from edge_asr_deploy.graph.packing import store, unpack_nodes
from edge_asr_deploy.ptq.outliers import SHARED, WIDE_BITS, FloatColumns, ScaleCodes, gap_bits, with_fillers
from edge_asr_deploy.ptq.weight import QuantizedWeight

FLOAT, INT32, INT64, UINT8 = ir.DataType.FLOAT, ir.DataType.INT32, ir.DataType.INT64, ir.DataType.UINT8


def kernel_inputs(builder: Builder, weight: QuantizedWeight) -> tuple[ir.Value, ir.Value, ir.Value, int]:
    """Codes [in, out] and zero points [groups, out] as uint8, scales [groups, out] as float32; and the codes' bits."""
    rows, columns = weight.shape
    assert weight.scale_codes is not None and weight.wide is not None
    planes = store(builder, weight.codes.T, weight.bits, 0, "codes")
    codes = unpack_nodes(builder, planes, weight.bits, 0, columns, (rows,))
    scales = _scales(builder, weight.scale_codes)
    zeros = _zero_points(builder, weight)
    if not len(weight.wide.positions):
        return codes, zeros, scales, weight.bits
    shifts = _shared(builder, builder.constant(weight.wide.shifts.T, "shifts"), rows)
    first = builder.constant(np.array(1 << (weight.bits - 1), dtype=np.uint8))
    half = builder.constant(np.array(1 << (WIDE_BITS - 1), dtype=np.int32))
    starts = builder.op(
        "Sub", half, builder.op("Cast", builder.op("BitShift", first, shifts, direction="LEFT"), to=INT32)
    )
    one = builder.constant(np.array(1, dtype=np.uint8))
    factors = builder.op("Cast", builder.op("BitShift", one, shifts, direction="LEFT"), to=FLOAT)

    def by_input(value: ir.Value) -> ir.Value:
        return _repeat(builder, value, 0, columns if weight.group is None else weight.group, columns)

    wide = _scatter(builder, _widen(builder, codes, by_input(shifts), by_input(starts)), weight)
    zeros = builder.op("Cast", _widen(builder, zeros, shifts, starts), to=UINT8)
    return wide, zeros, builder.op("Div", scales, factors), WIDE_BITS


def float_columns(builder: Builder, gathered: ir.Value, columns: FloatColumns) -> ir.Value:
    """What the kept channels contribute to a Linear's output; `gathered` are these channels of its input."""
    values = builder.constant(columns.values.T, "kept")
    return builder.op("MatMul", gathered, builder.op("Cast", values, to=FLOAT))  # type: ignore[no-any-return]


def gather(builder: Builder, inputs: ir.Value, index: NDArray[np.int64]) -> ir.Value:
    """The channels `index` of a Linear's input (batch, steps, channels)."""
    stored = builder.constant(index.astype(np.uint16), "kept_channels")
    return builder.op("Gather", inputs, builder.op("Cast", stored, to=INT64), axis=-1)  # type: ignore[no-any-return]


def _scales(builder: Builder, narrow: ScaleCodes) -> ir.Value:
    rows = len(narrow.codes)
    planes = store(builder, narrow.codes.T, narrow.width, 1, "scale_codes")
    codes = builder.op("Cast", unpack_nodes(builder, planes, narrow.width, 1, rows), to=FLOAT)
    base, step = (
        _shared(builder, builder.op("Cast", builder.constant(values.T, name), to=FLOAT), rows)
        for values, name in ((narrow.base, "scale_base"), (narrow.step, "scale_step"))
    )
    return builder.op("Add", builder.op("Mul", codes, step), base)  # type: ignore[no-any-return]


def _zero_points(builder: Builder, weight: QuantizedWeight) -> ir.Value:
    rows, groups = weight.zero_points.shape
    if weight.symmetric:
        middle = builder.constant(np.array(1 << (weight.bits - 1), dtype=np.uint8))
        return builder.op("Expand", middle, builder.integers(groups, rows))  # type: ignore[no-any-return]
    planes = store(builder, weight.zero_points.T, weight.bits, 1, "zeros")
    return unpack_nodes(builder, planes, weight.bits, 1, rows)


def _widen(builder: Builder, codes: ir.Value, shifts: ir.Value, starts: ir.Value) -> ir.Value:
    """Codes (uint8) as wide ones (int32: onnxruntime adds no bytes)."""
    shifted = builder.op("BitShift", codes, shifts, direction="LEFT")
    return builder.op("Add", builder.op("Cast", shifted, to=INT32), starts)  # type: ignore[no-any-return]


def _scatter(builder: Builder, codes: ir.Value, weight: QuantizedWeight) -> ir.Value:
    """Wide codes with the outliers' in their places, uint8 [in, out]; their positions are stored as gaps."""
    assert weight.wide is not None
    width = gap_bits(weight.wide.positions)
    positions = with_fillers(weight.wide.positions, width)
    merged, _, _ = weight.kernel_operands()
    gaps: NDArray[Any] = np.diff(positions, prepend=-1).astype(np.uint8 if width == 8 else np.uint16)
    stored = builder.op("Cast", builder.constant(gaps, "gaps"), to=INT64)
    ends = builder.op("CumSum", stored, builder.constant(np.array(0, dtype=np.int64)))
    where = builder.op("Sub", ends, builder.integers(1))
    values = builder.constant(merged.T.reshape(-1)[positions], "outliers")
    flat = builder.op("Reshape", codes, builder.integers(-1))
    flat = builder.op("ScatterElements", flat, where, builder.op("Cast", values, to=INT32), axis=0)
    rows, columns = weight.shape
    return builder.op("Cast", builder.op("Reshape", flat, builder.integers(columns, rows)), to=UINT8)  # type: ignore[no-any-return]


def _shared(builder: Builder, values: ir.Value, rows: int) -> ir.Value:
    """What 16 output channels share [groups, out / 16], for each of them [groups, out]."""
    return _repeat(builder, values, 1, SHARED, rows)


def _repeat(builder: Builder, values: ir.Value, axis: int, times: int, length: int) -> ir.Value:
    """Repeat each entry of a matrix along an axis (0 or 1), and cut the axis at `length`."""
    repeated = builder.op("Unsqueeze", values, builder.integers(axis + 1))
    repeated = builder.op("Expand", repeated, builder.integers(*(times if a == axis + 1 else 1 for a in range(3))))
    other = builder.op("Shape", values, start=1 - axis, end=2 - axis)
    sizes = [builder.integers(-1), other]
    joined = builder.op("Concat", *(sizes if axis == 0 else reversed(sizes)), axis=0)
    cut = (builder.integers(bound) for bound in (0, length, axis))
    return builder.op("Slice", builder.op("Reshape", repeated, joined), *cut)  # type: ignore[no-any-return]
