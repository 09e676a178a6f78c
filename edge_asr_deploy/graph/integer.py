"""Linear layers that multiply integers: the input rounded to uint8, the weight an int8 matrix with a scale per channel.

onnxruntime makes one integer kernel of each: DynamicQuantizeMatMul, or MatMulIntegerToFloat where several layers read
one rounded input and where its range is fixed. Weights are signed: unsigned ones run at half the speed. Codes of fewer
than 8 bits are packed, and unpacked to int8 by operators that are folded when the session is created.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.graph.builder import Builder
from edge_asr_deploy.graph.outliers import kernel_inputs
from edge_asr_deploy.graph.packing import store, unpack_nodes
from edge_asr_deploy.graph.weights import check, middle, spread_groups, stored_multipliers, wide_scales
from edge_asr_deploy.ptq.weight import Activation, QuantizedWeight

# What onnxruntime makes of the layers. MatMulInteger, which multiplies integers too, would leave the scaling to others.
INTEGER_KERNELS = ("DynamicQuantizeMatMul", "MatMulIntegerToFloat")
FLOAT, INT8, INT32 = ir.DataType.FLOAT, ir.DataType.INT8, ir.DataType.INT32


@dataclass(frozen=True)
class Rounded:
    """A tensor rounded to uint8: one value dequantized again (fixed range), or codes, scale and zero point."""

    values: tuple[ir.Value, ...]


def round_input(
    builder: Builder, inputs: ir.Value, activation: Activation, others: NDArray[np.float32] | None = None
) -> Rounded:
    """Round what some layers read, (batch, steps, channels); all layers that read it may share the result.

    Channels that are computed apart, in float, are 0 in `others` (channels,), the rest 1: here they count as zero,
    which every grid holds.
    """
    if others is not None:
        inputs = builder.op("Mul", inputs, builder.constant(others, "others"))
    if activation.scale is None or activation.zero_point is None:
        return Rounded(builder.op("DynamicQuantizeLinear", inputs, outputs=3))
    grid = (
        builder.constant(np.array(activation.scale, np.float32), "scale"),
        builder.constant(np.array(activation.zero_point, np.uint8), "zero"),
    )
    return Rounded((builder.op("DequantizeLinear", builder.op("QuantizeLinear", inputs, *grid), *grid),))


def integer_matmul(builder: Builder, inputs: Rounded, weight: QuantizedWeight) -> ir.Value:
    """`inputs` (batch, steps, in) times the matrix, float32 (batch, steps, out), named after the layer."""
    matrix, scales = int8_matrix(builder, weight)
    if len(inputs.values) == 1:
        wide = builder.op("DequantizeLinear", matrix, scales, axis=1)
        product: ir.Value = builder.op("MatMul", inputs.values[0], wide)
    else:
        codes, scale, zero = inputs.values
        sums = builder.op("Cast", builder.op("MatMulInteger", codes, matrix, zero), to=FLOAT)
        product = builder.op("Mul", sums, builder.op("Mul", scale, scales))
    product.name = product_name(weight.name)
    return product


def product_name(layer: str) -> str:
    """What the product of an int8 layer is called in the graph, by the layer's module path."""
    return f"{layer}:product"


def int8_matrix(builder: Builder, weight: QuantizedWeight) -> tuple[ir.Value, ir.Value]:
    """(codes - zero points) * multipliers, int8 [in, out], and the channels' scales (out,), float32.

    UserError where the products need more than 8 bits.
    """
    check(weight)
    if weight.scales.shape[1] != 1:
        raise UserError("weights", weight.name, "integer kernels take one scale per output channel")
    products = _products(weight)
    if products.min() < -128 or products.max() > 127:
        raise UserError("weights", weight.name, "its codes do not fit int8; use a symmetric grid or fewer bits")
    first = builder.integers(0)
    if weight.scale_codes is not None:
        merged, points, wide, _ = kernel_inputs(builder, weight)
        values = builder.op("Sub", *(builder.op("Cast", value, to=INT32) for value in (merged, points)))
        return builder.op("Cast", values, to=INT8), builder.op("Squeeze", wide, first)
    scales = builder.op("Squeeze", wide_scales(builder, weight.scales.astype(np.float16).T), first)
    codes, zero_points = weight.codes.T, weight.zero_points.T
    if weight.bits == 8:
        return builder.constant((codes.astype(np.int16) - zero_points).astype(np.int8), "codes"), scales
    length, rows = codes.shape
    planes = store(builder, codes, weight.bits, 0, "codes")
    values = builder.op("Cast", unpack_nodes(builder, planes, weight.bits, 0, length, (rows,)), to=INT32)
    if weight.symmetric:
        zeros = builder.constant(np.array(middle(weight), np.int32))
    else:
        packed = store(builder, zero_points, weight.bits, 1, "zeros")
        zeros = builder.op("Cast", unpack_nodes(builder, packed, weight.bits, 1, rows), to=INT32)
        zeros = spread_groups(builder, zeros, weight)
    values = builder.op("Sub", values, zeros)
    if weight.multipliers is not None:
        factors = builder.op("Cast", stored_multipliers(builder, weight), to=INT32)
        factors = builder.op("Add", factors, builder.constant(np.array(1, np.int32)))
        values = builder.op("Mul", values, spread_groups(builder, factors, weight))
    return builder.op("Cast", values, to=INT8), scales


def _products(weight: QuantizedWeight) -> np.ndarray[Any, np.dtype[np.int32]]:
    codes, zero_points, _ = weight.kernel_operands()
    group = np.arange(codes.shape[1]) // (weight.group or codes.shape[1])
    products: np.ndarray[Any, np.dtype[np.int32]] = codes.astype(np.int32) - zero_points[:, group]
    return products if weight.multipliers is None else products * weight.multipliers[:, group]
