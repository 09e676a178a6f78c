"""Writing ONNX nodes: a thin layer over onnx_ir that names what it makes and collects it for one graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray


class Builder:
    """Collects nodes and initializers under one name prefix, for a main graph (`add_to`) or a branch (`branch`).

    Values of an outer graph may be used as inputs inside a branch: ONNX subgraphs see the names around them.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = []

    def op(self, kind: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """Append a node of one output; returns it."""
        return self._append(kind, inputs, 1, attributes)[0]

    def several(self, kind: str, outputs: int, *inputs: ir.Value | None, **attributes: Any) -> tuple[ir.Value, ...]:
        """Append a node of so many `outputs`; returns them."""
        return self._append(kind, inputs, outputs, attributes)

    def _append(
        self, kind: str, inputs: Sequence[ir.Value | None], outputs: int, attributes: dict[str, Any]
    ) -> tuple[ir.Value, ...]:
        name = f"{self.prefix}/{kind}_{len(self.nodes)}"
        node = ir.node(kind, list(inputs), attributes, num_outputs=outputs, name=name)
        for index, value in enumerate(node.outputs):
            value.name = f"{name}:{index}"
        self.nodes.append(node)
        return tuple(node.outputs)

    def constant(self, array: NDArray[Any], name: str = "") -> ir.Value:
        """An initializer holding `array` (numpy or ml_dtypes: int4 and uint4 are packed two to a byte)."""
        name = f"{self.prefix}/{name or f'c{len(self.initializers)}'}"
        tensor = ir.tensor(np.ascontiguousarray(array), name=name)
        value = ir.Value(
            name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor
        )
        self.initializers.append(value)
        return value

    def integers(self, *values: int) -> ir.Value:
        """A one-dimensional int64 initializer: axes, shapes, indices."""
        return self.constant(np.array(values, dtype=np.int64))

    def add_to(self, graph: ir.Graph) -> None:
        """Move what was built into `graph`; the order of nodes is mended by `tidy`."""
        for value in self.initializers:
            graph.register_initializer(value)
        graph.extend(self.nodes)

    def branch(self, outputs: list[ir.Value]) -> ir.Graph:
        """What was built as the body of an If."""
        return ir.Graph([], outputs, nodes=self.nodes, initializers=self.initializers, name=self.prefix)


def int4(array: NDArray[Any]) -> NDArray[Any]:
    """As signed 4-bit integers."""
    return array.astype(ml_dtypes.int4)


def uint4(array: NDArray[Any]) -> NDArray[Any]:
    """As unsigned 4-bit integers."""
    return array.astype(ml_dtypes.uint4)
