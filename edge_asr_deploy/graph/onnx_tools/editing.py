"""Loading an exported graph, raising its opset, finding nodes in it, and tidying it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import version_converter
from onnx_ir.passes import common as passes

# 23 brings Attention and RotaryEmbedding; blocked DequantizeLinear and INT4 came with 21.
OPSET = 23
# The IR version that onnxruntime 1.23, the oldest supported, reads.
IR_VERSION = 11
# The values of placeholders for matrices (`trace`): this and those that follow. No traced graph holds them otherwise.
FIRST_MARK = 1 << 20
# Weights are taken out while the opset is raised: a protobuf message ends at 2 GB and shapes are small.
SMALL_BYTES = 1024


def load(path: Path, matrices: Sequence[Callable[[], NDArray[np.float32]]] = (), opset: int = OPSET) -> ir.Model:
    """Read a model file and raise it to `opset` with onnx's version converter.

    In the place of placeholders stand `matrices`, in the order of their marks, each read when it is asked for.
    """
    proto = onnx.load(path)
    weights = {tensor.name: tensor for tensor in proto.graph.initializer if len(tensor.raw_data) > SMALL_BYTES}
    remaining = [tensor for tensor in proto.graph.initializer if tensor.name not in weights]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(remaining)
    proto.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
        for name, tensor in weights.items()
    )
    raised = version_converter.convert_version(proto, opset)
    inputs = [value for value in raised.graph.input if value.name not in weights]
    del raised.graph.input[:]
    raised.graph.input.extend(inputs)
    raised.graph.initializer.extend(weights.values())
    model: ir.Model = ir.from_proto(raised)
    model.ir_version = IR_VERSION
    # The tracer stores equal tensors once and passes them on through Identity nodes.
    passes.IdentityEliminationPass()(model)
    for node in [node for node in model.graph if node.op_type == "ConstantOfShape"]:
        value = node.attributes.get("value")
        mark = 0.0 if value is None else float(value.as_tensor().numpy().ravel()[0])
        if FIRST_MARK <= mark < FIRST_MARK + len(matrices):
            _insert_matrix(model.graph, node, matrices[int(mark) - FIRST_MARK])
    return model


def _insert_matrix(graph: ir.Graph, node: ir.Node, read: Callable[[], NDArray[np.float32]]) -> None:
    """Let an initializer take the place of a placeholder."""
    old, size = node.outputs[0], node.inputs[0]
    known = None if size is None else ir.convenience.get_const_tensor(size)
    assert known is not None
    shape = ir.Shape(known.numpy().tolist())
    tensor = ir.LazyTensor(lambda: ir.tensor(read()), dtype=ir.DataType.FLOAT, shape=shape, name=old.name)
    matrix = ir.Value(name=old.name, shape=shape, type=ir.TensorType(ir.DataType.FLOAT), const_value=tensor)
    old.replace_all_uses_with(matrix)
    graph.remove(node, safe=True)
    graph.register_initializer(matrix)


class Finder:
    """The nodes of an exported graph by name: torch's exporter names them after the module path."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self._nodes = {node.name: node for node in graph}

    def node(self, name: str) -> ir.Node:
        """The node of that name; KeyError when the exporter did not write it."""
        return self._nodes[name]

    def linear(self, path: str) -> ir.Value:
        """Output of the Linear at `path` (`/model/decoder/layers.0/fc1`), after its bias if it has one."""
        node = self._nodes.get(f"{path}/Add") or self._nodes[f"{path}/MatMul"]
        return node.outputs[0]

    def value(self, name: str) -> ir.Value:
        """The graph input of that name."""
        return next(value for value in self.graph.inputs if value.name == name)


def constant_of(value: ir.Value | None) -> NDArray[np.float32]:
    """The array of an initializer."""
    assert value is not None and value.const_value is not None, f"{value} is no initializer"
    array: NDArray[np.float32] = value.const_value.numpy()
    return array


def rename_output(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    """Replace the graph output `old` by `new`, which takes its name, type and shape."""
    name, new.type, new.shape = old.name, old.type, old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    old.name = f"{name}/replaced"
    new.name = name


def tidy(model: ir.Model) -> None:
    """Drop nodes and tensors that no output needs, and sort the nodes topologically."""
    passes.RemoveUnusedNodesPass()(model)
    model.graph.sort()
    for node in model.graph.all_nodes():
        node.doc_string = None
        node.metadata_props.clear()
