"""Makes integer products exact on processors that saturate them: x86 without VNNI.

On these processors onnxruntime multiplies uint8 by int8 with VPMADDUBSW, which adds two products in 16 bits. The
largest sum, 2 * 255 * 127, does not fit and saturates silently. The uint8 by uint8 kernel is exact. Therefore, when a
session is created there, the signed operand is replaced by an unsigned one with a zero point of 128. (onnxruntime's own
option for this, `session.x64quantprecision`, breaks DequantizeLinear with one scale per channel in 1.32, and ignores
operands that are not constant.) On other processors graphs run as they are stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.cpu import CpuFeatures, cpu_features

if TYPE_CHECKING:
    import onnx

# The uint8 code that stands for zero.
ZERO_POINT = 128
# Every graph with integer products contains one of these operators: a layer with fixed ranges, or with a scale for each
# row, is a MatMul between DequantizeLinears whose input comes from QuantizeLinear.
INTEGER_PRODUCTS = (b"MatMulInteger", b"QuantizeLinear")
# These operators only move codes: their outputs hold the codes that QuantizeLinear made.
MOVES = ("Reshape", "Transpose")


def needs_unsigned(path: Path, features: CpuFeatures | None = None) -> bool:
    """True when this model file multiplies integers and the processor's signed kernel saturates.

    A missing file gives False: onnxruntime then reports it.
    """
    if not (features or cpu_features()).saturates or not path.is_file():
        return False
    content = path.read_bytes()
    return any(operator in content for operator in INTEGER_PRODUCTS)


def with_unsigned_operands(path: Path) -> bytes:
    """The serialized graph of a model file, in which every signed operand of an integer product is unsigned.

    Tensors in data files stay there. UserError when the package onnx is missing; boards with other processors do not
    need it.
    """
    try:
        import onnx
    except ImportError:
        remedy = "exact integer products on this processor need it; pip install onnx"
        raise UserError("onnx", "is not installed", remedy) from None
    model = onnx.load(path, load_external_data=False)
    for graph in _graphs(model.graph):
        _rewrite(graph)
        # The stored types are outdated for operands that are now unsigned. onnxruntime infers the new types.
        graph.ClearField("value_info")
    content: bytes = model.SerializeToString()
    return content


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _rewrite(graph: onnx.GraphProto) -> None:
    """Change the products of one graph. The producers of their operands are in the same graph."""
    producers = {output: node for node in graph.node for output in node.output}
    signed = _Signed(graph, producers)
    for node in graph.node:
        if node.op_type == "MatMulInteger":
            if len(node.input) == 4 and node.input[3]:
                # Its matrix is unsigned already: a graph that was arranged for other engines.
                continue
            inputs = [*node.input, ""][:3]
            node.ClearField("input")
            node.input.extend([inputs[0], signed.shifted(inputs[1]), inputs[2], signed.scalar()])
        elif node.op_type == "MatMul":
            scaled = _scaled_codes(node, producers)
            if scaled is None:
                continue
            # The layer's input is already uint8. Its matrix is int8 with one scale for each channel.
            codes, scales = scaled.input[0], scaled.input[1]
            zeros = signed.per_channel(scales)
            scaled.ClearField("input")
            scaled.input.extend([signed.shifted(codes), scales, zeros])
    signed.insert()


def _scaled_codes(node: onnx.NodeProto, producers: dict[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """The DequantizeLinear that makes the second operand of a product, if another makes the first."""
    first, second = (producers.get(name) for name in node.input)
    if first is None or second is None:
        return None
    both = first.op_type == second.op_type == "DequantizeLinear"
    return second if both and len(second.input) == 2 else None


class _Signed:
    """Makes signed codes of one graph unsigned. `insert` puts each new node behind the producer of its input."""

    def __init__(self, graph: onnx.GraphProto, producers: dict[str, onnx.NodeProto]) -> None:
        self.graph, self.producers = graph, producers
        self.behind: dict[str, list[onnx.NodeProto]] = {}
        self.done: dict[str, str] = {}

    def scalar(self) -> str:
        """The name of the zero point of all codes."""
        return self._constant("unsigned/zero", "uint8", ZERO_POINT)

    def shifted(self, codes: str) -> str:
        """The name of the unsigned codes that replace signed codes."""
        if codes not in self.done:
            self.done[codes] = self._at_their_source(codes) or self._cast(codes)
        return self.done[codes]

    def per_channel(self, scales: str) -> str:
        """The name of the zero points for one-dimensional scales, one for each. A session folds them to a constant."""
        zero, middle = self._constant("unsigned/none", "float32", 0), self._constant("unsigned/float", "float32", 128)
        zeros = self._node("Mul", [scales, zero], scales, "none")
        zero_points = self._node("Add", [zeros, middle], scales, "some")
        return self._node("Cast", [zero_points], scales, "zeros", to=2)

    def insert(self) -> None:
        """Add the new nodes to the graph, each behind the node that makes its first input."""
        import onnx

        nodes = [*self.behind.pop("", ())]
        initializers = {value.name for value in self.graph.initializer}
        for name in [name for name in self.behind if name not in self.producers or name in initializers]:
            nodes += self.behind.pop(name)
        for node in self.graph.node:
            nodes.append(node)
            for output in node.output:
                nodes += self.behind.pop(output, ())
        assert not self.behind
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del self.graph.node[:]
        self.graph.node.extend(copies)

    def _at_their_source(self, codes: str) -> str | None:
        """Let the QuantizeLinear that makes these codes make unsigned ones, which keep the name.

        None if the codes do not come from a QuantizeLinear.
        """
        node = self.producers.get(codes)
        while node is not None and node.op_type in MOVES:
            node = self.producers.get(node.input[0])
        if node is None or node.op_type != "QuantizeLinear" or len(node.input) != 3:
            return None
        node.input[2] = self.scalar()
        return codes

    def _cast(self, codes: str) -> str:
        as_int32 = self._node("Cast", [codes], codes, "wide", to=6)
        moved = self._node("Add", [as_int32, self._constant("unsigned/shift", "int32", ZERO_POINT)], codes, "moved")
        return self._node("Cast", [moved], codes, "unsigned", to=2)

    def _node(self, kind: str, inputs: list[str], behind: str, name: str, **attributes: int) -> str:
        import onnx

        output = f"{behind}/{name}"
        node = onnx.helper.make_node(kind, inputs, [output], name=output, **attributes)
        self.behind.setdefault(behind, []).append(node)
        return output

    def _constant(self, name: str, kind: str, value: int) -> str:
        import numpy as np
        import onnx

        name = f"{self.graph.name}/{name}"
        if all(tensor.name != name for tensor in self.graph.initializer):
            self.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, kind), name))
        return name
