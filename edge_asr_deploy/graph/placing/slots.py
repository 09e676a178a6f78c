"""Replacing a node's operand, or the node itself, by built nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.graph.onnx_tools.builder import Builder


def weight_builder(node: ir.Node) -> Builder:
    """A builder for the matrix of a Linear's product, named after it."""
    return Builder(str(node.name).removesuffix("/MatMul") + "/weight")


def insert(builder: Builder, node: ir.Node, index: int, value: ir.Value) -> None:
    """Insert the built nodes in front of `node`, in its own graph; `value` becomes its input `index`."""
    graph = _prepend(builder, node)
    old = node.inputs[index]
    node.replace_input_with(index, value)
    _forget(graph, old)


def replace_node(builder: Builder, node: ir.Node, value: ir.Value) -> None:
    """Replace `node`, a MatMul or Conv, by the built nodes in its own graph, and remove its matrix."""
    graph = _prepend(builder, node)
    old = node.inputs[1]
    node.outputs[0].replace_all_uses_with(value)
    graph.remove(node, safe=True)
    _forget(graph, old)


def _prepend(builder: Builder, node: ir.Node) -> ir.Graph:
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    for initializer in builder.initializers:
        graph.register_initializer(initializer)
    graph.insert_before(node, builder.nodes)
    return graph


def _forget(graph: ir.Graph, old: ir.Value | None) -> None:
    if old is not None and old.name is not None and not old.uses() and old.name in graph.initializers:
        del graph.initializers[old.name]


def require_equal(name: str, traced: Any, expected: Any) -> None:
    """UserError where the traced tensor is not the one that was quantized."""
    if traced.shape != expected.shape or not np.array_equal(traced, expected):
        raise UserError("export", name, "the traced graph holds another weight than was quantized; report this")
