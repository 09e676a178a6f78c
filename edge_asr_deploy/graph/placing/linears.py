"""Linear layers: their codes, or their float matrices, in the place of the traced ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edge_asr_deploy.bundle.manifest import Layer
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.onnx_tools.editing import constant_of
from edge_asr_deploy.graph.placing.slots import insert, replace_node, require_equal, weight_builder
from edge_asr_deploy.graph.records import float_layer, quantized_layer
from edge_asr_deploy.graph.storing.integer import Rounded, integer_matmul, round_input
from edge_asr_deploy.graph.storing.outliers import float_columns, gather
from edge_asr_deploy.graph.storing.weights import float_matrix, matmul_weight
from edge_asr_deploy.quantized.inputs import InputRounding
from edge_asr_deploy.quantized.model import QuantizedModel
from edge_asr_deploy.quantized.outliers import FloatColumns
from edge_asr_deploy.quantized.weight import QuantizedWeight


def place_linears(nodes: Mapping[str, ir.Node], quantized: QuantizedModel) -> list[Layer]:
    """Store every Linear's matrix as the quantized model says; `nodes` are their products, by module path.

    UserError where the traced matrix is not the one that was quantized, or is neither quantized nor meant to be float.
    """
    named, shared = quantized.by_name, _Shared()
    layers = []
    for name, node in nodes.items():
        builder, traced = weight_builder(node), constant_of(node.inputs[1])
        weight = named.get(name)
        if weight is not None:
            require_equal(name, traced, weight.dequantize().T)
            if weight.inputs is not None:
                rounded = shared.rounded(builder, node, weight, weight.inputs)
                shared.add_float_columns(builder, node, weight.float_columns)
                replace_node(builder, node, integer_matmul(builder, rounded, weight))
            else:
                value = matmul_weight(builder, weight)
                shared.add_float_columns(builder, node, weight.float_columns)
                insert(builder, node, 1, value)
            layers.append(quantized_layer(weight, builder))
        elif name in quantized.floats:
            stored = quantized.floats[name]
            value = float_matrix(builder, traced, stored.bits, "weight")
            layers.append(float_layer(name, stored.component, stored.bits, traced.T, builder, products=1))
            insert(builder, node, 1, value)
        else:
            raise UserError("export", name, "the recipe makes codes of it but it was not quantized; report this")
    return layers


class _Shared:
    """Nodes shared by layers that read one tensor: q, k and v round it once and gather its float channels once."""

    def __init__(self) -> None:
        # By their graph and by the values that they are computed from.
        self._rounded: dict[tuple[ir.Graph | ir.Function | None, ir.Value, InputRounding, bytes | None], Rounded] = {}
        self._gathered: dict[tuple[object, ...], ir.Value] = {}

    def rounded(self, builder: Builder, node: ir.Node, weight: QuantizedWeight, inputs: InputRounding) -> Rounded:
        """The rounded input of a layer; its float columns count as zero there."""
        read = node.inputs[0]
        assert read is not None
        others = None
        if weight.float_columns is not None:
            others = np.ones(weight.shape[1], np.float32)
            others[weight.float_columns.index] = 0
        key = (node.graph, read, inputs, None if others is None else others.tobytes())
        if key not in self._rounded:
            self._rounded[key] = round_input(builder, read, inputs, others)
        return self._rounded[key]

    def add_float_columns(self, builder: Builder, node: ir.Node, columns: FloatColumns | None) -> None:
        """Add the float channels' part, if there are any, to a Linear's product."""
        if columns is None:
            return
        graph, inputs, product = node.graph, node.inputs[0], node.outputs[0]
        assert isinstance(graph, ir.Graph) and inputs is not None
        key = (id(graph), id(inputs), columns.index.tobytes())
        if key not in self._gathered:
            self._gathered[key] = gather(builder, inputs, columns.index)
        readers = list(product.uses())
        behind = Builder(f"{builder.prefix}/kept")
        total = behind.op("Add", product, float_columns(builder, self._gathered[key], columns))
        for reader, index in readers:
            reader.replace_input_with(index, total)
        graph.insert_after(node, behind.nodes)


def place_rotation(nodes: dict[str, ir.Node], half_path: str, quantized: QuantizedModel) -> list[Layer]:
    """Take the products with a rotation of the residual stream out of `nodes`, and store their matrix once.

    The decoder's second product undoes its first: it multiplies with the transpose.
    """
    name, back = f"{half_path}.rotation", f"{half_path}.rotation_1"
    if name not in nodes:
        return []
    node, bits = nodes.pop(name), quantized.rotation_bits
    builder, traced = weight_builder(node), constant_of(node.inputs[1])
    value = float_matrix(builder, traced, bits, "weight")
    layer = float_layer(name, "rotation", bits, traced, builder, products=2 if back in nodes else 1)
    insert(builder, node, 1, value)
    if back in nodes:
        node = nodes.pop(back)
        require_equal(back, constant_of(node.inputs[1]), traced.T)
        builder = weight_builder(node)
        insert(builder, node, 1, builder.op("Transpose", value, perm=[1, 0]))
    return [layer]
