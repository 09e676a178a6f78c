"""Exact integer products on processors that would lose some: x86 without VNNI.

There onnxruntime multiplies uint8 by int8 with VPMADDUBSW, which adds two products in 16 bits: 2 * 255 * 127 does not
fit, and the sum saturates without a word. Its uint8 by uint8 kernel is exact, so that on such a processor the signed
operand becomes an unsigned one with a zero point of 128 when the session is created. (onnxruntime's own option for it,
`session.x64quantprecision`, breaks DequantizeLinear with one scale for each channel in 1.32 and leaves out operands
that are not constant.) Elsewhere graphs run as they are stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.cpu import CpuFeatures, cpu_features

if TYPE_CHECKING:
    import onnx

# From int8 to uint8: the code that stands for zero.
ZERO_POINT = 128
# One of these stands in every graph with integer products: layers with fixed ranges or a scale for each row are MatMuls
# between DequantizeLinears, and their input is made by QuantizeLinear.
INTEGER_PRODUCTS = (b"MatMulInteger", b"QuantizeLinear")
# What only moves codes: behind it they are those that QuantizeLinear gave.
MOVES = ("Reshape", "Transpose")


def needs_unsigned(path: Path, features: CpuFeatures | None = None) -> bool:
    """True for the file of a graph that multiplies integers, on a processor whose signed kernel saturates.

    A file that is not there is left to onnxruntime to complain about.
    """
    if not (features or cpu_features()).saturates or not path.is_file():
        return False
    content = path.read_bytes()
    return any(operator in content for operator in INTEGER_PRODUCTS)


def with_unsigned_operands(path: Path) -> bytes:
    """The graph of a model file with every signed operand of an integer product as an unsigned one, serialized.

    Tensors in data files stay there. UserError without the package onnx, which boards with other processors need not
    have.
    """
    try:
        import onnx
    except ImportError:
        remedy = "this processor needs it to multiply integers exactly; pip install onnx"
        raise UserError("onnx", "is not installed", remedy) from None
    model = onnx.load(path, load_external_data=False)
    for graph in _graphs(model.graph):
        _rewrite(graph)
        # Types of what is now unsigned; onnxruntime infers them.
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
    """Change the products of one graph; what makes their operands stands in it, too."""
    producers = {output: node for node in graph.node for output in node.output}
    signed = _Signed(graph, producers)
    for node in graph.node:
        if node.op_type == "MatMulInteger":
            inputs = [*node.input, ""][:3]
            node.ClearField("input")
            node.input.extend([inputs[0], signed.shifted(inputs[1]), inputs[2], signed.scalar()])
        elif node.op_type == "MatMul" and (scaled := _scaled_codes(node, producers)) is not None:
            # The range of a layer's input is uint8 already; its matrix is int8 with one scale for each channel.
            codes, scales = scaled.input[0], scaled.input[1]
            zeros = signed.per_channel(scales)
            scaled.ClearField("input")
            scaled.input.extend([signed.shifted(codes), scales, zeros])
    signed.insert()


def _scaled_codes(node: onnx.NodeProto, producers: dict[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """The DequantizeLinear behind the second operand of a product whose first is dequantized, too."""
    first, second = (producers.get(name) for name in node.input)
    if first is None or second is None:
        return None
    both = first.op_type == second.op_type == "DequantizeLinear"
    return second if both and len(second.input) == 2 else None


class _Signed:
    """Signed codes of one graph made unsigned; `insert` puts the new nodes where their inputs are known."""

    def __init__(self, graph: onnx.GraphProto, producers: dict[str, onnx.NodeProto]) -> None:
        self.graph, self.producers = graph, producers
        self.behind: dict[str, list[onnx.NodeProto]] = {}
        self.done: dict[str, str] = {}

    def scalar(self) -> str:
        """The zero point of all codes."""
        return self._constant("unsigned/zero", "uint8", ZERO_POINT)

    def shifted(self, codes: str) -> str:
        """The name of the unsigned codes for signed ones."""
        if codes not in self.done:
            self.done[codes] = self._at_their_source(codes) or self._cast(codes)
        return self.done[codes]

    def per_channel(self, scales: str) -> str:
        """The name of the zero points for one-dimensional scales: as many, folded when the session is created."""
        zero, middle = self._constant("unsigned/none", "float32", 0), self._constant("unsigned/float", "float32", 128)
        none = self._node("Mul", [scales, zero], scales, "none")
        some = self._node("Add", [none, middle], scales, "some")
        return self._node("Cast", [some], scales, "zeros", to=2)

    def insert(self) -> None:
        """Add the new nodes to the graph, each behind the node that makes its first input."""
        import onnx

        nodes = [*self.behind.pop("", ())]
        known = {value.name for value in self.graph.initializer}
        for name in [name for name in self.behind if name not in self.producers or name in known]:
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
        """Where QuantizeLinear makes them and nothing else reads them, let it make unsigned ones: then they keep
        their name."""
        node = self.producers.get(codes)
        while node is not None and node.op_type in MOVES:
            node = self.producers.get(node.input[0])
        if node is None or node.op_type != "QuantizeLinear" or len(node.input) != 3:
            return None
        node.input[2] = self.scalar()
        return codes

    def _cast(self, codes: str) -> str:
        wide = self._node("Cast", [codes], codes, "wide", to=6)
        moved = self._node("Add", [wide, self._constant("unsigned/shift", "int32", ZERO_POINT)], codes, "moved")
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
