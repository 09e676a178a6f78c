"""Matrices with outliers as operators: the codes stay in a low-bit kernel, with the outliers beside them.

Float input channels (QUIK) are gathered and multiplied separately: y = x W_codes + x[float] W_float, where W_codes is
exactly 0 in the float channels. Single weights on a finer grid (SpQR) are scattered over the widened codes by operators
that onnxruntime folds when the session is created: one 8-bit kernel then computes everything.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.storing.packing import store, unpack_nodes
from edge_asr_deploy.quantized.outliers import FINER_BITS, FinerCodes, FloatColumns, gap_bits, with_fillers
from edge_asr_deploy.quantized.scales import SHARED, CodedScales
from edge_asr_deploy.quantized.weight import QuantizedWeight

FLOAT, INT32, INT64, UINT8 = ir.DataType.FLOAT, ir.DataType.INT32, ir.DataType.INT64, ir.DataType.UINT8


def kernel_inputs(builder: Builder, weight: QuantizedWeight) -> tuple[ir.Value, ir.Value, ir.Value, int]:
    """Codes [in, out] and zero points [groups, out] as uint8, scales [groups, out] as float32; and the codes' bits."""
    inner = Builder(f"{zlib.crc32(weight.name.encode()):x}")
    kernel = _kernel_inputs(inner, weight)
    # These fifty nodes are folded by onnxruntime. Short names, as names with the layer's path would take more bytes.
    for number, node in enumerate(inner.nodes):
        node.name, node.outputs[0].name = None, f"{inner.prefix}.{number}"
    builder.nodes += inner.nodes
    builder.initializers += inner.initializers
    return kernel


def _kernel_inputs(builder: Builder, weight: QuantizedWeight) -> tuple[ir.Value, ir.Value, ir.Value, int]:
    coded, finer = weight.scales, weight.outliers
    if not isinstance(coded, CodedScales) or not isinstance(finer, FinerCodes):
        raise ValueError(f"{weight.name}: has no coded scales beside finer codes")
    (rows, columns), groups = weight.shape, coded.codes.shape[1]
    # Values shared by 16 output channels are broadcast: [groups, out / 16, 16], codes [groups, group, out / 16, 16].
    blocked = builder.integers(groups, -1, SHARED)
    scales = _scales(builder, coded, blocked)
    zeros = _zero_points(builder, weight, blocked)
    width = columns if weight.group is None else weight.group
    padded = _blocks(weight.codes.T, groups * width)
    codes = unpack_nodes(
        builder, store(builder, padded, weight.bits, 0, "codes"), weight.bits, 0, len(padded), padded.shape[1:]
    )
    bits = weight.bits
    if finer.count:
        bits = FINER_BITS
        shifts = builder.constant(finer.shifts.T[:, :, None], "shifts")
        first = builder.constant(np.array(1 << (weight.bits - 1), dtype=np.uint8))
        below = builder.op("Cast", builder.op("BitShift", first, shifts, direction="LEFT"), to=INT32)
        starts = builder.op("Sub", builder.constant(np.array(1 << (FINER_BITS - 1), dtype=np.int32)), below)
        one = builder.constant(np.array(1, dtype=np.uint8))
        factors = builder.op("Cast", builder.op("BitShift", one, shifts, direction="LEFT"), to=FLOAT)
        scales, zeros = builder.op("Div", scales, factors), _widen(builder, zeros, shifts, starts)
        codes = builder.op("Reshape", codes, builder.integers(groups, width, -1, SHARED))
        by_input = builder.integers(1)
        codes = _widen(
            builder,
            codes,
            builder.op("Unsqueeze", shifts, by_input),
            builder.op("Unsqueeze", starts, by_input),
        )
        codes = builder.op("Reshape", codes, builder.integers(groups * width, padded.shape[1]))
    scales, zeros = (builder.op("Reshape", v, builder.integers(groups, -1)) for v in (scales, zeros))
    codes = _cut(builder, codes, 0, columns, len(padded))
    codes, scales, zeros = (_cut(builder, v, 1, rows, padded.shape[1]) for v in (codes, scales, zeros))
    if finer.count:
        codes = _scatter(builder, codes, weight, finer)
    return codes, zeros, scales, bits


def float_columns(builder: Builder, gathered: ir.Value, columns: FloatColumns) -> ir.Value:
    """The float channels' part of a Linear's output; `gathered` are these channels of its input."""
    values = builder.constant(columns.values.T, "kept")
    return builder.op("MatMul", gathered, builder.op("Cast", values, to=FLOAT))


def gather(builder: Builder, inputs: ir.Value, index: NDArray[np.int64]) -> ir.Value:
    """The channels `index` of a Linear's input (batch, steps, channels)."""
    stored = builder.constant(index.astype(np.uint16), "kept_channels")
    return builder.op("Gather", inputs, builder.op("Cast", stored, to=INT64), axis=-1)


def _blocks(values: NDArray[np.uint8], length: int = 0) -> NDArray[np.uint8]:
    """A matrix [., out] with output channels padded to a multiple of 16, and at least `length` rows."""
    rows, channels = values.shape
    return np.pad(values, ((0, max(0, length - rows)), (0, -channels % SHARED)))


def _cut(builder: Builder, value: ir.Value, axis: int, length: int, present: int) -> ir.Value:
    """The first `length` of the `present` entries along an axis."""
    if length == present:
        return value
    return builder.op("Slice", value, *(builder.integers(bound) for bound in (0, length, axis)))


def _scales(builder: Builder, narrow: CodedScales, blocked: ir.Value) -> ir.Value:
    """The scales [groups, out / 16, 16]: base + codes * step."""
    padded = _blocks(narrow.codes.T)
    planes = store(builder, padded, narrow.width, 1, "scale_codes")
    codes = builder.op("Reshape", unpack_nodes(builder, planes, narrow.width, 1, padded.shape[1]), blocked)
    base, step = (
        builder.op("Cast", builder.constant(values.T[:, :, None], name), to=FLOAT)
        for values, name in ((narrow.base, "scale_base"), (narrow.step, "scale_step"))
    )
    return builder.op("Add", builder.op("Mul", builder.op("Cast", codes, to=FLOAT), step), base)


def _zero_points(builder: Builder, weight: QuantizedWeight, blocked: ir.Value) -> ir.Value:
    padded = _blocks(weight.zero_points.T)
    if weight.symmetric:
        middle = builder.constant(np.array(1 << (weight.bits - 1), dtype=np.uint8))
        return builder.op("Expand", middle, builder.integers(len(padded), padded.shape[1] // SHARED, SHARED))
    planes = store(builder, padded, weight.bits, 1, "zeros")
    return builder.op("Reshape", unpack_nodes(builder, planes, weight.bits, 1, padded.shape[1]), blocked)


def _widen(builder: Builder, codes: ir.Value, shifts: ir.Value, starts: ir.Value) -> ir.Value:
    """Codes on the finer grid, uint8. They are added as int32, because onnxruntime adds no bytes."""
    shifted = builder.op("Cast", builder.op("BitShift", codes, shifts, direction="LEFT"), to=INT32)
    return builder.op("Cast", builder.op("Add", shifted, starts), to=UINT8)


def _scatter(builder: Builder, codes: ir.Value, weight: QuantizedWeight, finer: FinerCodes) -> ir.Value:
    """Finer codes [in, out] with the outliers' codes scattered in; positions are stored as gaps between them."""
    width = gap_bits(finer.positions)
    positions = with_fillers(finer.positions, width)
    gaps: NDArray[Any] = np.diff(positions, prepend=0).astype(np.uint8 if width == 8 else np.uint16)
    stored = builder.op("Cast", builder.constant(gaps, "gaps"), to=INT64)
    where = builder.op("CumSum", stored, builder.constant(np.array(0, dtype=np.int64)))
    merged, _, _ = weight.kernel_operands()
    values = builder.constant(merged.T.reshape(-1)[positions], "outliers")
    flat = builder.op("Reshape", codes, builder.integers(-1))
    flat = builder.op("ScatterElements", flat, where, values, axis=0)
    return builder.op("Reshape", flat, builder.integers(*reversed(weight.shape)))
