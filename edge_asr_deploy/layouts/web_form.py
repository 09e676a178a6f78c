"""The form of a graph for onnxruntime-web: kernels that are fast there, and no operator that a build of it lacks.

Two facts about its WebAssembly, measured in docs/guide/other-engines.md, decide:

* MatMulNBits dequantizes the whole matrix in every call: a decoder step of whisper tiny.en takes five times as long as
  in float. Integer products of int8 matrices are two to three times as fast as float ones, and exact.
* The build with WebGPU, which transformers.js loads by default, has no Cast between 4-bit types and others.

So what is stored is the same, to the byte, but operators that onnxruntime folds when a session is created undo it:

1. A low-bit matrix becomes a float one at load. Only the download is small; the memory is that of the float model.
2. An int8 matrix stays int8.
3. 4-bit codes are stored as bytes that hold two of them each.

Every matrix has the same values as in the bundle; activations are not rounded where the low-bit kernel would.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.storing.packing import MULTIPLE, store, unpack_nodes
from edge_asr_deploy.layouts.exact_head import one_pass

FLOAT, INT4, UINT4, INT8 = ir.DataType.FLOAT, ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.INT8
# A signed code and the unsigned one that stands for it differ by this.
MIDDLE = 8


def to_web_form(model: ir.Model) -> None:
    """Rewrite the graph and its branches in place."""
    one_pass(model.graph)
    rows = _rows(model)
    for graph in list(model.graphs()):
        for node in [node for node in graph if node.op_type == "DequantizeLinear" and _is_low_bit(node)]:
            _dequantize_at_load(graph, node, rows)
        for node in [node for node in graph if node.op_type == "Cast"]:
            _without_four_bits(graph, node)
    passes.RemoveUnusedNodesPass()(model)


def four_bit_casts(model: ir.Model) -> list[str]:
    """The names of Casts to or from 4-bit types: the build with WebGPU cannot run them."""
    return [str(node.name) for node in _casts(model) if _target(node) in (INT4, UINT4) or _four_bits(node.inputs[0])]


def _casts(model: ir.Model) -> Iterator[ir.Node]:
    for graph in model.graphs():
        yield from (node for node in graph if node.op_type == "Cast")


def _target(node: ir.Node) -> ir.DataType:
    return ir.DataType(node.attributes["to"].as_int())


def _four_bits(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The 4-bit tensor that a value holds, if it holds one."""
    tensor = None if value is None else value.const_value
    return tensor if tensor is not None and tensor.dtype in (INT4, UINT4) else None


def _is_low_bit(node: ir.Node) -> bool:
    """Whether a DequantizeLinear makes the matrix of a product with floats: a product of two of them is an integer one.

    Others dequantize a rounded activation.
    """
    products = [user for user, index in node.outputs[0].uses() if user.op_type == "MatMul" and index == 1]
    return bool(products) and all(_producer(product.inputs[0]) != "DequantizeLinear" for product in products)


def _rows(model: ir.Model) -> dict[str, int]:
    """The first axis of every value that has a known one: also of codes that operators unpack from packed ones."""
    inferred = model.clone()
    passes.ShapeInferencePass()(inferred)
    values = [value for graph in inferred.graphs() for node in graph for value in node.outputs]
    values += [value for graph in inferred.graphs() for value in graph.initializers.values()]
    known = {str(value.name): value.shape for value in values if value.shape is not None and len(value.shape)}
    return {name: shape[0] for name, shape in known.items() if isinstance(shape[0], int)}


def _producer(value: ir.Value | None) -> str | None:
    node = None if value is None else value.producer()
    return None if node is None else node.op_type


def _dequantize_at_load(graph: ir.Graph, node: ir.Node, rows: Mapping[str, int]) -> None:
    """(codes - zeros) * scales in float, by operators that are folded; DequantizeLinear itself never is."""
    builder = Builder(f"{node.name}/float")
    codes, scales, zeros = (*node.inputs, None)[:3]
    assert codes is not None
    values = builder.op("Cast", _integers(builder, codes), to=FLOAT)
    points = None if zeros is None else builder.op("Cast", _integers(builder, zeros), to=FLOAT)
    block = node.attributes.get_int("block_size", 0)
    if block:
        # [groups, block, out] against [groups, 1, out]; a last group that is not whole is filled up, and cut off again.
        length = rows[str(codes.name)]
        missing = -length % block
        if missing:
            values = builder.op("Pad", values, builder.integers(0, 0, missing, 0))
        values = builder.op("Reshape", values, builder.integers((length + missing) // block, block, -1))
        middle = builder.integers(1)
        scales, points = (None if v is None else builder.op("Unsqueeze", v, middle) for v in (scales, points))
    if points is not None:
        values = builder.op("Sub", values, points)
    values = builder.op("Mul", values, scales)
    if block:
        values = builder.op("Reshape", values, builder.integers(length + missing, -1))
        if missing:
            values = builder.op("Slice", values, builder.integers(0), builder.integers(length), builder.integers(0))
    _put(graph, node, builder, values)


def _integers(builder: Builder, value: ir.Value | None) -> ir.Value:
    """Codes in a type of whole bytes: constants of 4 bits taken apart, and those that a Cast would narrow before it."""
    assert value is not None
    if (tensor := _four_bits(value)) is not None:
        return _from_bytes(builder, tensor)
    node = value.producer()
    if node is not None and node.op_type == "Cast" and _target(node) == UINT4:
        assert node.inputs[0] is not None
        return node.inputs[0]
    return value


def _from_bytes(builder: Builder, tensor: ir.TensorProtocol) -> ir.Value:
    """4-bit codes as bytes that hold two each, and the operators that take them apart: uint8, or int8 where signed."""
    signed = tensor.dtype == INT4
    values = tensor.numpy().astype(np.int8)
    codes = (values + MIDDLE if signed else values).astype(np.uint8)
    # Zero points have few rows, which packing would fill up.
    axis = 0 if codes.shape[0] % MULTIPLE == 0 else 1
    planes = store(builder, codes, 4, axis, f"codes{len(builder.initializers)}")
    unpacked = unpack_nodes(builder, planes, 4, axis, codes.shape[axis], codes.shape[axis + 1 :])
    if not signed:
        return unpacked
    return builder.op("Sub", builder.op("Cast", unpacked, to=INT8), builder.constant(np.array(MIDDLE, np.int8)))


def _without_four_bits(graph: ir.Graph, node: ir.Node) -> None:
    """The other Casts: of codes that are unpacked to an int8 matrix."""
    if (tensor := _four_bits(node.inputs[0])) is None:
        return
    builder = Builder(f"{node.name}/bytes")
    unpacked = _from_bytes(builder, tensor)
    is_made = tensor.dtype == INT4 and _target(node) == INT8
    _put(graph, node, builder, unpacked if is_made else builder.op("Cast", unpacked, to=_target(node)))


def _put(graph: ir.Graph, node: ir.Node, builder: Builder, value: ir.Value) -> None:
    """What was built, in the place of a node."""
    for initializer in builder.initializers:
        graph.register_initializer(initializer)
    graph.insert_before(node, builder.nodes)
    node.outputs[0].replace_all_uses_with(value)
    graph.remove(node, safe=True)
