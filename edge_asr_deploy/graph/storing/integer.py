"""Linear layers that multiply integers: the input rounded to uint8, the weight an int8 matrix with a scale per channel.

onnxruntime fuses each layer into one integer kernel: DynamicQuantizeMatMul, or MatMulIntegerToFloat where several
layers read one rounded input and where its range is fixed. Weights are signed: unsigned ones run at half the speed.
Codes of fewer than 8 bits are packed, and unpacked to int8 by operators that are folded when the session is created.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.storing.outliers import kernel_inputs
from edge_asr_deploy.graph.storing.weights import (
    check,
    int8_products,
    middle,
    stored_codes,
    stored_multipliers,
    stored_scales,
)
from edge_asr_deploy.quantized.inputs import TOP, Dynamic, InputRounding, PerRow, Static
from edge_asr_deploy.quantized.scales import CodedScales, TwoLevelScales
from edge_asr_deploy.quantized.weight import QuantizedWeight

# The kernels that onnxruntime fuses the layers into. MatMulInteger alone would leave the scaling to further kernels.
INTEGER_KERNELS = ("DynamicQuantizeMatMul", "MatMulIntegerToFloat")
# A block longer than any row gives one scale per row. (With `axis` 0 over rows onnxruntime would use one thread only.)
WHOLE_ROW = 65536
FLOAT, INT8, INT32 = ir.DataType.FLOAT, ir.DataType.INT8, ir.DataType.INT32


@dataclass(frozen=True)
class Rounded:
    """A tensor rounded to uint8: one dequantized value, or codes, scale and zero point.

    `rows`: the scales (batch, steps, 1) that the product of each row must still be multiplied with, if any.
    """

    values: tuple[ir.Value, ...]
    rows: ir.Value | None = None


def round_input(
    builder: Builder, inputs: ir.Value, rounding: InputRounding, others: NDArray[np.float32] | None = None
) -> Rounded:
    """Round an input (batch, steps, channels) of layers; all layers that read it may share the result.

    `others` (channels,) is 0 for channels that are computed in float, and 1 for the rest: float channels count as zero
    here, which every grid holds.
    """
    if others is not None:
        inputs = builder.op("Mul", inputs, builder.constant(others, "others"))
    match rounding:
        case Dynamic():
            return Rounded(builder.several("DynamicQuantizeLinear", 3, inputs))
        case PerRow():
            return round_rows(builder, inputs, rounding)
        case Static(scale, zero_point):
            grid = (
                builder.constant(np.array(scale, np.float32), "scale"),
                builder.constant(np.array(zero_point, np.uint8), "zero"),
            )
            return Rounded((builder.op("DequantizeLinear", builder.op("QuantizeLinear", inputs, *grid), *grid),))


def round_rows(builder: Builder, inputs: ir.Value, rounding: PerRow) -> Rounded:
    """Round on one scale per row. Codes are dequantized on scale 1, for which onnxruntime has an integer kernel."""
    zero = builder.constant(np.array(rounding.zero_point, np.uint8), "zero")
    magnitudes = builder.op("Abs", inputs) if rounding.is_centered else inputs
    largest = builder.op("ReduceMax", magnitudes, builder.integers(-1))
    largest = builder.op("Max", largest, builder.constant(np.array(rounding.floor, np.float32)))
    steps = builder.op("Mul", largest, builder.constant(np.array(1 / (TOP - rounding.zero_point), np.float32)))
    zeros = builder.op("Expand", zero, builder.op("Shape", steps))
    codes = builder.op("QuantizeLinear", inputs, steps, zeros, axis=-1, block_size=WHOLE_ROW)
    unit = builder.constant(np.array(1, np.float32), "unit")
    return Rounded((builder.op("DequantizeLinear", codes, unit, zero),), steps)


def integer_matmul(builder: Builder, inputs: Rounded, weight: QuantizedWeight) -> ir.Value:
    """`inputs` (batch, steps, in) times the matrix, float32 (batch, steps, out), named after the layer."""
    product = scaled_product(builder, inputs, *int8_matrix(builder, weight))
    product.name = product_name(weight.name)
    return product


def scaled_product(builder: Builder, inputs: Rounded, matrix: ir.Value, scales: ir.Value) -> ir.Value:
    """`inputs` times an int8 matrix [in, out] with the scales (out,) of its channels, float32."""
    if len(inputs.values) == 1:
        widened = builder.op("DequantizeLinear", matrix, scales, axis=1)
        product = builder.op("MatMul", inputs.values[0], widened)
        return product if inputs.rows is None else builder.op("Mul", product, inputs.rows)
    codes, scale, zero = inputs.values
    sums = builder.op("Cast", builder.op("MatMulInteger", codes, matrix, zero), to=FLOAT)
    return builder.op("Mul", sums, builder.op("Mul", scale, scales))


def product_name(layer: str) -> str:
    """The name of an int8 layer's product in the graph, by the layer's module path."""
    return f"{layer}:product"


def int8_matrix(builder: Builder, weight: QuantizedWeight) -> tuple[ir.Value, ir.Value]:
    """(codes - zero points) * multipliers, int8 [in, out], and the channels' scales (out,), float32.

    UserError where the products need more than 8 bits.
    """
    check(weight)
    require_int8(weight)
    first = builder.integers(0)
    if isinstance(weight.scales, CodedScales):
        merged, points, widened, _ = kernel_inputs(builder, weight)
        values = builder.op("Sub", *(builder.op("Cast", value, to=INT32) for value in (merged, points)))
        return builder.op("Cast", values, to=INT8), builder.op("Squeeze", widened, first)
    scales = builder.op("Squeeze", stored_scales(builder, weight), first)
    codes, zeros = stored_codes(builder, weight)
    if weight.symmetric and weight.bits == 8:
        return codes, scales
    start = 0 if weight.bits == 4 else middle(weight)
    multipliers = None
    if isinstance(weight.scales, TwoLevelScales):
        multipliers = stored_multipliers(builder, weight.scales, weight.bits)
    return int8_products(builder, codes, start if zeros is None else zeros, multipliers, weight), scales


def require_int8(weight: QuantizedWeight) -> None:
    """UserError for codes whose products with their multipliers need more than 8 bits."""
    if weight.group is not None and not isinstance(weight.scales, TwoLevelScales):
        raise UserError("weights", weight.name, "integer kernels take one scale per output channel")
    products = weight.int8_products()
    if products.min() < -128 or products.max() > 127:
        raise UserError("weights", weight.name, "its codes do not fit int8; use a symmetric grid or fewer bits")
