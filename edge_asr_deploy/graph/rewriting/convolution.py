"""A convolution over frames as an integer product: rounded windows of its input times a signed int8 matrix.

ConvInteger with signed weights is slower than a float convolution in onnxruntime; the product runs in the kernel of the
Linear layers (`integer`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.storing.integer import Rounded, product_name, round_rows, scaled_product
from edge_asr_deploy.quantized.inputs import InputRounding, PerRow


def integer_convolution(
    builder: Builder,
    node: ir.Node,
    codes: NDArray[np.int8],
    scales: NDArray[np.float32],
    name: str,
    rounding: InputRounding,
) -> ir.Value:
    """The output of the Conv `node` on (batch, channels, frames): float32 (batch, out, frames / stride).

    `codes` (out, channels, taps) and `scales`, one for each output channel; the product is named after the layer. With
    a scale for each row every window is rounded on its own, else the whole input on one scale.
    """
    out, channels, taps = codes.shape
    read, bias = node.inputs[0], node.inputs[2] if len(node.inputs) > 2 else None
    (stride,), (before, after) = _integers(node, "strides"), _integers(node, "pads")
    pads = builder.integers(0, before, 0, 0, after, 0)
    if isinstance(rounding, PerRow):
        frames = builder.op("Transpose", read, perm=[0, 2, 1])
        frames = builder.op("Pad", frames, pads) if before or after else frames
        windows = round_rows(builder, _windows(builder, frames, taps, stride, channels), rounding)
    else:
        rounded, scale, zero = builder.several("DynamicQuantizeLinear", 3, read)
        frames = builder.op("Pad", builder.op("Transpose", rounded, perm=[0, 2, 1]), pads, zero)
        parts = []
        for tap in range(taps):
            # Frame number `tap` of every window: all frames from `tap` on but those that only later taps read.
            frames_behind = taps - 1 - tap
            end = -frames_behind if frames_behind else np.iinfo(np.int64).max
            bounds = (builder.integers(value) for value in (tap, end, 1, stride))
            parts.append(builder.op("Slice", frames, *bounds))
        windows = Rounded((builder.op("Concat", *parts, axis=2), scale, zero))
    matrix = builder.constant(codes.transpose(2, 1, 0).reshape(taps * channels, out), "weight")
    each = builder.constant(scales.reshape(out), "weight_scales")
    product = scaled_product(builder, windows, matrix, each)
    product.name = product_name(name)
    if bias is not None:
        product = builder.op("Add", product, bias)
    return builder.op("Transpose", product, perm=[0, 2, 1])


def _windows(builder: Builder, frames: ir.Value, taps: int, stride: int, channels: int) -> ir.Value:
    """Frames (batch, frames, channels) as windows (batch, windows, taps * channels); no window for too few frames."""
    count = builder.op("Shape", frames, start=1, end=2)
    count = builder.op("Div", builder.op("Add", count, builder.integers(stride - taps)), builder.integers(stride))
    zero, one = (builder.constant(np.array(value, np.int64)) for value in (0, 1))
    numbers = builder.op("Range", zero, builder.op("Squeeze", count), one)
    first = builder.op("Mul", builder.op("Unsqueeze", numbers, builder.integers(1)), builder.integers(stride))
    gathered = builder.op("Gather", frames, builder.op("Add", first, builder.integers(*range(taps))), axis=1)
    return builder.op("Reshape", gathered, builder.integers(0, -1, taps * channels))


def _integers(node: ir.Node, name: str) -> Any:
    return node.attributes[name].as_ints()
