"""A convolution over frames as an integer product: its input rounded, laid out as windows, times a signed int8 matrix.

ConvInteger with signed weights is slower than a float convolution in onnxruntime; the product runs in the kernel of the
Linear layers (`integer`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edge_asr_deploy.graph.builder import Builder
from edge_asr_deploy.graph.integer import Rounded, product_name, scaled_product


def integer_convolution(
    builder: Builder, node: ir.Node, codes: NDArray[np.int8], scales: NDArray[np.float32], name: str
) -> ir.Value:
    """What the Conv `node` computes on (batch, channels, frames), float32 (batch, out, frames / stride).

    `codes` (out, channels, taps) and `scales`, one for each output channel; the product is named after the layer.
    """
    out, channels, taps = codes.shape
    read, bias = node.inputs[0], node.inputs[2] if len(node.inputs) > 2 else None
    (stride,), (before, after) = _integers(node, "strides"), _integers(node, "pads")
    rounded, scale, zero = builder.op("DynamicQuantizeLinear", read, outputs=3)
    frames = builder.op("Transpose", rounded, perm=[0, 2, 1])
    frames = builder.op("Pad", frames, builder.integers(0, before, 0, 0, after, 0), zero)
    windows = []
    for tap in range(taps):
        end = tap + 1 - taps or np.iinfo(np.int64).max
        bounds = (builder.integers(value) for value in (tap, end, 1, stride))
        windows.append(builder.op("Slice", frames, *bounds))
    matrix = builder.constant(codes.transpose(2, 1, 0).reshape(taps * channels, out), "weight")
    each = builder.constant(scales.reshape(out), "weight_scales")
    product = scaled_product(builder, Rounded((builder.op("Concat", *windows, axis=2), scale, zero)), matrix, each)
    product.name = product_name(name)
    if bias is not None:
        product = builder.op("Add", product, bias)
    return builder.op("Transpose", product, perm=[0, 2, 1])  # type: ignore[no-any-return]


def _integers(node: ir.Node, name: str) -> Any:
    return node.attributes[name].as_ints()
