"""The form of a graph for onnxruntime-web: no Cast to or from 4-bit types, which its WebGPU build cannot run.

That build is what transformers.js loads by default in a browser. It has the low-bit kernels (a DequantizeLinear over
4-bit codes becomes MatMulNBits), but no Cast between 4-bit types and others, and so it cannot fold ours at load.

Two rules are enough, and both keep every value to the last bit:

1. 4-bit codes that a Cast widens are stored as bytes that hold two codes each, and standard operators on bytes take
   them apart: as many bytes to download as before. onnxruntime folds these operators when the session is created.
2. Unpacked bytes that a Cast narrows for a DequantizeLinear stay bytes: the 8-bit kernel reads them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.storing.packing import store, unpack_nodes

INT4, UINT4, INT8 = ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.INT8
# A signed code and the unsigned one that stands for it differ by this.
MIDDLE = 8


def to_web_form(model: ir.Model) -> None:
    """Rewrite the graph and its branches in place."""
    for graph in list(model.graphs()):
        for node in [node for node in graph if node.op_type == "Cast"]:
            source = node.inputs[0]
            if source is not None and source.const_value is not None and source.const_value.dtype in (INT4, UINT4):
                _widen_from_bytes(graph, node, source)
            elif node.attributes["to"].as_int() == UINT4:
                node.outputs[0].replace_all_uses_with(_required(source))
                graph.remove(node, safe=True)


def four_bit_casts(model: ir.Model) -> list[str]:
    """The names of Casts to or from 4-bit types that are left: the WebGPU build cannot run them."""
    return [str(node.name) for node in _casts(model) if {INT4, UINT4} & _types(node)]


def _casts(model: ir.Model) -> Iterator[ir.Node]:
    for graph in model.graphs():
        yield from (node for node in graph if node.op_type == "Cast")


def _types(node: ir.Node) -> set[ir.DataType]:
    source = _required(node.inputs[0])
    kind = source.const_value.dtype if source.const_value is not None else source.dtype
    return {ir.DataType(node.attributes["to"].as_int()), *([kind] if kind is not None else [])}


def _widen_from_bytes(graph: ir.Graph, node: ir.Node, source: ir.Value) -> None:
    """In the place of a Cast of 4-bit codes: their bytes, taken apart, and cast from uint8."""
    tensor = _required(source).const_value
    assert tensor is not None
    signed = tensor.dtype == INT4
    values = tensor.numpy().astype(np.int8)
    codes = (values + MIDDLE if signed else values).astype(np.uint8)
    builder = Builder(f"{node.name}/bytes")
    unpacked = unpack_nodes(builder, store(builder, codes, 4, 0, "codes"), 4, 0, codes.shape[0], codes.shape[1:])
    target = ir.DataType(node.attributes["to"].as_int())
    if signed:
        shifted = builder.op("Cast", unpacked, to=INT8)
        shifted = builder.op("Sub", shifted, builder.constant(np.array(MIDDLE, np.int8)))
        widened = shifted if target == INT8 else builder.op("Cast", shifted, to=target)
    else:
        widened = builder.op("Cast", unpacked, to=target)
    for value in builder.initializers:
        graph.register_initializer(value)
    graph.insert_before(node, builder.nodes)
    node.outputs[0].replace_all_uses_with(widened)
    graph.remove(node, safe=True)
    if not source.uses():
        del graph.initializers[str(source.name)]


def _required(value: ir.Value | None) -> ir.Value:
    assert value is not None
    return value
