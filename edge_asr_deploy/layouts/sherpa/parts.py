"""What both of sherpa-onnx's graphs take out of a bundle's decoder, and how a graph gets other inputs and outputs."""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edge_asr_deploy.errors import UserError


@dataclass(frozen=True)
class CrossAttention:
    """The cross-attention of one decoder layer: the outputs of its `If`, and of both branches of it.

    Of each three the first is what the queries attend to; the others are keys and values.
    """

    merged: tuple[ir.Value, ...]
    cached: tuple[ir.Value, ...]
    fresh: tuple[ir.Value, ...]


def cross_attention(graph: ir.Graph, layer: int) -> CrossAttention:
    """That of a bundle's merged decoder (`graph/rewriting/decoder.py`). UserError where it is built otherwise."""
    name = f"present.{layer}.encoder.key"
    branching = (node for node in graph if node.op_type == "If")
    node = next((node for node in branching if any(value.name == name for value in node.outputs)), None)
    if node is None:
        raise UserError("bundle", "its decoder", f"has no branches that make {name}; export it again")
    branches = (node.attributes[key].as_graph() for key in ("then_branch", "else_branch"))
    return CrossAttention(tuple(node.outputs), *(tuple(branch.outputs) for branch in branches))


def input_of(graph: ir.Graph, name: str) -> ir.Value:
    """The graph's input of that name."""
    return next(value for value in graph.inputs if value.name == name)


def output_of(graph: ir.Graph, name: str) -> ir.Value:
    """The graph's output of that name."""
    return next(value for value in graph.outputs if value.name == name)


def replace_inputs(graph: ir.Graph, inputs: Sequence[ir.Value]) -> None:
    """Give a graph these inputs and no others; engines find them by their order."""
    _replace(graph.inputs, inputs)


def replace_outputs(graph: ir.Graph, outputs: Sequence[ir.Value]) -> None:
    """Give a graph these outputs and no others."""
    _replace(graph.outputs, outputs)


def _replace(old: MutableSequence[ir.Value], new: Sequence[ir.Value]) -> None:
    for value in list(old):
        old.remove(value)
    old.extend(new)
