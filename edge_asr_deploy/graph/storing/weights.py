"""From `QuantizedWeight` to initializers and the operators that onnxruntime fuses into a low-bit kernel.

4- and 8-bit codes are stored as such, [in, out], behind a blocked DequantizeLinear (axis 0): onnxruntime turns that and
the MatMul into MatMulNBits. Other widths are packed (`packing`) and unpacked to the next of 4 and 8 bits by operators
that are folded when the session is created. Scales are float16 behind a Cast, which is folded too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.graph.onnx_tools.builder import Builder, int4, uint4
from edge_asr_deploy.graph.storing.outliers import kernel_inputs
from edge_asr_deploy.graph.storing.packing import store, unpack_nodes
from edge_asr_deploy.quantized.scales import CodedScales, TwoLevelScales
from edge_asr_deploy.quantized.stem import int8_rows
from edge_asr_deploy.quantized.weight import QuantizedWeight

FLOAT, INT8, INT32, UINT4 = ir.DataType.FLOAT, ir.DataType.INT8, ir.DataType.INT32, ir.DataType.UINT4


def matmul_weight(builder: Builder, weight: QuantizedWeight) -> ir.Value:
    """The matrix [in, out] in float32, dequantized from what is stored; ready to be the second input of a MatMul."""
    check(weight)
    if isinstance(weight.scales, CodedScales):
        merged, points, scales, bits = kernel_inputs(builder, weight)
        return dequantize(builder, widen(builder, merged, bits), scales, widen(builder, points, bits), weight)
    stored, zeros = stored_codes(builder, weight)
    if weight.bits not in (4, 8):
        stored = widen(builder, stored, weight.bits)
        if zeros is None:
            zeros = widen(builder, middle_points(builder, weight), weight.bits)
    return dequantize(builder, stored, _group_scales(builder, weight), zeros, weight)


def stored_codes(builder: Builder, weight: QuantizedWeight) -> tuple[ir.Value, ir.Value | None]:
    """Codes [in, out] and zero points [groups, out], the same initializers whichever kernel reads them.

    A symmetric grid has no zero points: codes of 4 and 8 bits are then signed, other codes lie around `middle`.
    """
    codes, zero_points = weight.codes.T, weight.zero_points.T
    if weight.bits in (4, 8):
        return _native(builder, weight, codes, zero_points)
    planes = store(builder, codes, weight.bits, 0, "codes")
    unpacked = unpack_nodes(builder, planes, weight.bits, 0, codes.shape[0], codes.shape[1:])
    if weight.symmetric:
        return unpacked, None
    # Zero points are few: operators that unpack them would take more bytes than packing saves.
    return unpacked, builder.constant(uint4(zero_points) if weight.bits <= 4 else zero_points, "zeros")


def int8_products(
    builder: Builder, codes: ir.Value, zeros: ir.Value | int, multipliers: ir.Value | None, weight: QuantizedWeight
) -> ir.Value:
    """(codes - zeros) * multipliers as int8 [in, out]; codes are [in, out], the others [groups, out] or one number.

    Multipliers are given less one, as they are stored.
    """
    rows, columns = weight.shape
    # onnxruntime holds folded values in memory until all are folded: int8 stays int8 here, and groups are broadcast.
    blocks = None if weight.group is None or columns % weight.group else (columns // weight.group, weight.group, rows)
    kind, number = (INT8, np.int8) if weight.bits < 8 else (INT32, np.int32)

    def by_group(value: ir.Value) -> ir.Value:
        return builder.op("Unsqueeze", value, builder.integers(1)) if blocks else spread_groups(builder, value, weight)

    values = builder.op("Cast", codes, to=kind)
    values = builder.op("Reshape", values, builder.integers(*blocks)) if blocks else values
    if not isinstance(zeros, int):
        values = builder.op("Sub", values, by_group(builder.op("Cast", zeros, to=kind)))
    elif zeros:
        values = builder.op("Sub", values, builder.constant(np.array(zeros, number)))
    if multipliers is not None:
        factors = builder.op("Add", builder.op("Cast", multipliers, to=kind), builder.constant(np.array(1, number)))
        values = builder.op("Mul", values, by_group(factors))
    values = values if kind is INT8 else builder.op("Cast", values, to=INT8)
    return builder.op("Reshape", values, builder.integers(columns, rows)) if blocks else values


def stored_multipliers(builder: Builder, scales: TwoLevelScales, bits: int) -> ir.Value:
    """The multipliers less one, uint8 [groups, out], packed in the 8 - `bits` bits that codes of `bits` bits leave."""
    width = 8 - bits
    planes = store(builder, scales.multipliers.T - np.uint8(1), width, 1, "multipliers")
    return unpack_nodes(builder, planes, width, 1, len(scales.multipliers))


def spread_groups(builder: Builder, values: ir.Value, weight: QuantizedWeight) -> ir.Value:
    """[groups, out] as [in, out]: each group's value for every input channel in it. [1, out] stays as it is."""
    if weight.group is None:
        return values
    rows, columns = weight.shape
    groups = math.ceil(columns / weight.group)
    widened = builder.op("Unsqueeze", values, builder.integers(1))
    widened = builder.op("Expand", widened, builder.integers(groups, weight.group, rows))
    widened = builder.op("Reshape", widened, builder.integers(groups * weight.group, rows))
    if columns % weight.group:
        widened = builder.op("Slice", widened, *(builder.integers(bound) for bound in (0, columns, 0)))
    return widened


def _group_scales(builder: Builder, weight: QuantizedWeight) -> ir.Value:
    """The scale of every group, float32 [groups, out]."""
    stored = stored_scales(builder, weight)
    if isinstance(weight.scales, TwoLevelScales):
        return multiplied(builder, stored_multipliers(builder, weight.scales, weight.bits), stored)
    return stored


def multiplied(builder: Builder, multipliers: ir.Value, scales: ir.Value) -> ir.Value:
    """The groups' scales, float32, from their multipliers, which are stored less one, and the channels' scales."""
    factors = builder.op("Cast", multipliers, to=FLOAT)
    factors = builder.op("Add", factors, builder.constant(np.array(1, np.float32)))
    return builder.op("Mul", factors, scales)


def check(weight: QuantizedWeight) -> None:
    """UserError for scales that are not finite or not positive: such a tensor must not reach a device."""
    scales = weight.scales.by_group()
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        raise UserError(
            "weights", weight.name, "a scale is zero, negative, infinite or NaN; export again with more bits"
        )
    if isinstance(weight.scales, TwoLevelScales):
        low, high = int(weight.scales.multipliers.min()), int(weight.scales.multipliers.max())
        if low < 1 or high > 1 << (8 - weight.bits):
            raise UserError("weights", weight.name, f"a multiplier does not fit {8 - weight.bits} bits")
    if int(weight.codes.max()) >> weight.bits:
        raise UserError("weights", weight.name, f"a code does not fit {weight.bits} bits")


def widen(builder: Builder, codes: ir.Value, bits: int) -> ir.Value:
    """Unpacked codes in the type that the kernel takes: UINT4 up to 4 bits, else UINT8."""
    return builder.op("Cast", codes, to=UINT4) if bits <= 4 else codes


def middle(weight: QuantizedWeight) -> int:
    """The one zero point of a symmetric grid."""
    return 1 << (weight.bits - 1)


def middle_points(builder: Builder, weight: QuantizedWeight) -> ir.Value:
    """The symmetric zero point for every group and output channel, uint8 [groups, out]: made at session creation."""
    rows, groups = weight.zero_points.shape
    value = builder.constant(np.array(middle(weight), dtype=np.uint8))
    return builder.op("Expand", value, builder.integers(groups, rows))


def stored_scales(builder: Builder, weight: QuantizedWeight) -> ir.Value:
    """The float scales, [groups, out], or [1, out] where they have two levels: float16 on disk, float32 for kernels."""
    match weight.scales:
        case TwoLevelScales(channels, _):
            floats = channels
        case CodedScales():
            raise ValueError(f"{weight.name}: its scales are codes")
        case plain:
            floats = plain.values
    return builder.op("Cast", builder.constant(floats.T, "scales"), to=FLOAT)


def dequantize(
    builder: Builder, codes: ir.Value, scales: ir.Value, zeros: ir.Value | None, weight: QuantizedWeight
) -> ir.Value:
    """DequantizeLinear over codes [in, out]: blocks of `group` along axis 0, or one scale per output channel."""
    inputs = [codes, scales] if zeros is None else [codes, scales, zeros]
    if weight.group is None:
        # Per channel the scales are one-dimensional: [1, out] -> [out].
        axes = builder.integers(0)
        inputs[1:] = [builder.op("Squeeze", value, axes) for value in inputs[1:]]
        return builder.op("DequantizeLinear", *inputs, axis=1)
    return builder.op("DequantizeLinear", *inputs, axis=0, block_size=weight.group)


def _native(
    builder: Builder, weight: QuantizedWeight, codes: NDArray[Any], zero_points: NDArray[Any]
) -> tuple[ir.Value, ir.Value | None]:
    """Signed codes and no zero point where the grid is symmetric (the form with the fastest kernels), else unsigned."""
    if weight.symmetric:
        signed = codes.astype(np.int16) - middle(weight)
        return builder.constant(int4(signed) if weight.bits == 4 else signed.astype(np.int8), "codes"), None
    narrow = uint4 if weight.bits == 4 else np.ascontiguousarray
    return builder.constant(narrow(codes), "codes"), builder.constant(narrow(zero_points), "zeros")


def float_matrix(builder: Builder, array: NDArray[np.float32], bits: int, name: str) -> ir.Value:
    """A matrix kept in float: float32, or float16 widened when the session is created."""
    if bits == 32:
        return builder.constant(array, name)
    return builder.op("Cast", builder.constant(half(array, name), name), to=FLOAT)


def narrow_tensor(builder: Builder, array: NDArray[np.float32], bits: int, name: str) -> ir.Value:
    """A stem tensor (convolution kernel, positional table): 32 or 16 bits, or int8 with a scale per first axis.

    int8 is undone by Cast and Mul, which onnxruntime folds, not by DequantizeLinear, which it would run every time.
    """
    if bits != 8:
        return float_matrix(builder, array, bits, name)
    codes, scales = int8_rows(array)
    widened = builder.op("Cast", builder.constant(codes, name), to=FLOAT)
    return builder.op("Mul", widened, builder.constant(scales, f"{name}_scales"))


def half(array: NDArray[np.float32], name: str) -> NDArray[np.float16]:
    """As float16; UserError for values that it cannot hold."""
    narrowed = array.astype(np.float16)
    if not np.isfinite(narrowed).all():
        raise UserError("weights", name, "holds values that float16 cannot; store this part in 32 bits")
    return narrowed
