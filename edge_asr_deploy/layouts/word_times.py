"""The outputs `cross_attentions.N` of a decoder: how much every token attends to every frame, for word times.

Names and shapes are those of Optimum and transformers.js: for each layer (batch, heads, steps, frames), all heads,
since these clients choose the alignment heads themselves. The values are there anyway, as the Softmax of each branch
of the cross-attention; they only get a name.
"""

from __future__ import annotations

import onnx_ir as ir

from edge_asr_deploy.errors import UserError

FLOAT = ir.DataType.FLOAT


def add_cross_attentions(model: ir.Model) -> None:
    """Give the decoder the outputs `cross_attentions.N`. UserError for a graph that is none of ours."""
    graph = model.graph
    branches = {str(node.outputs[1].name): node for node in graph if node.op_type == "If" and len(node.outputs) > 1}
    layers = sum(str(value.name).endswith(".encoder.key") for value in graph.outputs)
    for layer in range(layers):
        node = branches.get(f"present.{layer}.encoder.key")
        if node is None:
            raise UserError("decoder", f"layer {layer}", "its cross-attention has another form; export it again")
        output = _with_weights(node)
        output.name = f"cross_attentions.{layer}"
        output.shape = ir.Shape(["batch_size", _heads(graph, layer), "decoder_sequence_length", "frames"])
        output.type = ir.TensorType(FLOAT)
        graph.outputs.append(output)


def _with_weights(node: ir.Node) -> ir.Value:
    """The new last output of an If: the Softmax of whichever branch runs."""
    for attribute in node.attributes.values():
        branch = attribute.as_graph()
        found = [inner for inner in branch if inner.op_type == "Softmax"]
        if len(found) != 1:
            raise UserError("decoder", node.name, f"has {len(found)} attentions in a branch; export the bundle again")
        weights = found[0].outputs[0]
        weights.type = ir.TensorType(FLOAT)
        branch.outputs.append(weights)
    node.resize_outputs(len(node.outputs) + 1)
    return node.outputs[-1]


def _heads(graph: ir.Graph, layer: int) -> int | str:
    shape = next(value.shape for value in graph.outputs if value.name == f"present.{layer}.encoder.key")
    heads = None if shape is None else shape[1]
    return heads if isinstance(heads, int) else "heads"
