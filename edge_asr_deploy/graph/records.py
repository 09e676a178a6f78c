"""The manifest's record of each tensor in a graph."""

from __future__ import annotations

from typing import Any

from edge_asr_deploy.bundle.manifest import Layer
from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.quantized.scales import TwoLevelScales
from edge_asr_deploy.quantized.weight import QuantizedWeight


def quantized_layer(weight: QuantizedWeight, builder: Builder) -> Layer:
    """The record of a matrix of codes; `builder` holds its stored tensors."""
    columns = weight.float_columns
    return Layer(
        name=weight.name,
        component=weight.component,
        method=weight.method,
        bits=weight.bits,
        group=weight.group,
        symmetric=weight.symmetric,
        shape=list(weight.shape),
        bytes=stored_bytes(builder),
        error=weight.error,
        effective_bits=round(weight.effective_bits, 4),
        outliers=None if weight.outliers is None else weight.outliers.count,
        float_columns=None if columns is None else len(columns.index),
        float_products=int(columns is not None),
        activations="float" if weight.inputs is None else weight.inputs.kind,
        storage="two-level" if isinstance(weight.scales, TwoLevelScales) else "plain",
    )


def float_layer(name: str, component: str, bits: int, array: Any, builder: Builder, products: int = 0) -> Layer:
    """The record of a tensor that stays float, or is int8 on disk only; `products` float MatMuls read it."""
    method = "int8 per row" if bits == 8 else f"float{bits}"
    return Layer(
        name=name,
        component=component,
        method=method,
        bits=bits,
        shape=list(array.shape),
        bytes=stored_bytes(builder),
        float_products=products,
        effective_bits=bits,
    )


def stored_bytes(builder: Builder) -> int:
    """Bytes of the initializers that were built."""
    return sum(value.const_value.nbytes for value in builder.initializers if value.const_value is not None)
