"""What onnxruntime makes of a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.inspection.inspect import in_half_precision, inspect_bundle, weight_kernels
from tests.support.fakes import write_bundle
from tests.support.optimized import large_dequantize, operators

K, N, GROUP = 256, 512, 32


def float_tensor(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def quantized_matmul(transposed: bool) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """x @ W with W as 8-bit codes: [K, N], which fuses, or [N, K] behind a Transpose, which does not."""
    rows, columns, axis = (N, K, 1) if transposed else (K, N, 0)
    codes = np.random.default_rng(0).integers(-100, 100, (rows, columns)).astype(np.int8)
    scales = np.ones((rows, columns // GROUP) if transposed else (rows // GROUP, columns), dtype=np.float32)
    nodes = [
        helper.make_node("DequantizeLinear", ["codes", "scales"], ["wide"], "dequantize", axis=axis, block_size=GROUP)
    ]
    if transposed:
        nodes.append(helper.make_node("Transpose", ["wide"], ["weight"], perm=[1, 0]))
        # A product in between keeps the Transpose from being folded into the MatMul.
        nodes.append(helper.make_node("MatMul", ["x", "weight"], ["y"]))
    else:
        nodes.append(helper.make_node("MatMul", ["x", "wide"], ["y"]))
    return nodes, [numpy_helper.from_array(codes, "codes"), numpy_helper.from_array(scales, "scales")]


def save(path: Path, graph: onnx.GraphProto) -> Path:
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def flat(path: Path, transposed: bool) -> Path:
    nodes, weights = quantized_matmul(transposed)
    x, y = float_tensor("x", ["batch", 1, K]), float_tensor("y", ["batch", 1, N])
    return save(path, helper.make_graph(nodes, "flat", [x], [y], weights))


def branched(path: Path) -> Path:
    """The unfused form inside one branch of an If."""
    nodes, weights = quantized_matmul(transposed=True)
    y = float_tensor("y", ["batch", 1, N])
    zeros = numpy_helper.from_array(np.zeros((1, 1, N), dtype=np.float32), "zeros")
    then = helper.make_graph(nodes, "then", [], [y], weights)
    other = helper.make_graph(
        [helper.make_node("Identity", ["zeros"], ["z"])], "else", [], [float_tensor("z", [1, 1, N])], [zeros]
    )
    node = helper.make_node("If", ["flag"], ["out"], then_branch=then, else_branch=other)
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [1])
    inputs = [flag, float_tensor("x", ["batch", 1, K])]
    return save(path, helper.make_graph([node], "branched", inputs, [float_tensor("out", ["batch", 1, N])]))


def test_a_fused_matrix_is_a_low_bit_operator_and_no_dequantize(tmp_path: Path) -> None:
    path = flat(tmp_path / "fused.onnx", transposed=False)
    assert operators(path)["MatMulNBits"] == 1
    assert large_dequantize(path) == []


def test_an_unfused_matrix_is_found(tmp_path: Path) -> None:
    path = flat(tmp_path / "unfused.onnx", transposed=True)
    assert operators(path)["MatMulNBits"] == 0
    assert len(large_dequantize(path)) == 1
    assert large_dequantize(path, min_elements=K * N + 1) == []


def test_branches_are_looked_into(tmp_path: Path) -> None:
    path = branched(tmp_path / "branched.onnx")
    assert operators(path)["DequantizeLinear"] == 1
    assert len(large_dequantize(path)) == 1


def test_a_file_that_is_no_model_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"bad\.onnx") as caught:
        operators(tmp_path / "bad.onnx")
    assert "\n" not in str(caught.value)


def test_a_bundle_shows_layers_bytes_and_operators_by_file(tmp_path: Path) -> None:
    graphs = {
        "encoder_model.onnx": flat(tmp_path / "e.onnx", transposed=False).read_bytes(),
        "decoder_model_merged.onnx": flat(tmp_path / "d.onnx", transposed=True).read_bytes(),
    }
    manifest = write_bundle(tmp_path / "tiny", files=graphs)
    inspection = inspect_bundle(tmp_path / "tiny")
    assert inspection.layers == manifest.layers
    assert inspection.size.encoder == len(graphs["encoder_model.onnx"])
    assert inspection.operators["encoder_model.onnx"]["MatMulNBits"] == 1
    assert list(inspection.large_dequantize) == ["decoder_model_merged.onnx"]


def test_a_damaged_bundle_is_not_inspected(tmp_path: Path) -> None:
    write_bundle(tmp_path / "tiny")
    (tmp_path / "tiny" / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json"):
        inspect_bundle(tmp_path / "tiny")


def test_only_products_with_a_stored_matrix_are_weight_kernels() -> None:
    branch = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.INT32, [2, 2])],
    )
    nodes = [
        helper.make_node("MatMulInteger", ["x", "w"], ["product"]),
        helper.make_node("MatMulInteger", ["x", "x"], ["attention"]),
        helper.make_node("MatMul", ["f", "float"], ["in_float"]),
        helper.make_node("If", ["is_first"], ["either"], then_branch=branch, else_branch=branch),
    ]
    stored = [
        helper.make_tensor("w", TensorProto.INT8, [2, 2], [1] * 4),
        helper.make_tensor("float", TensorProto.FLOAT, [2, 2], [1.0] * 4),
    ]
    model = helper.make_model(helper.make_graph(nodes, "graph", [], [], stored))
    assert weight_kernels(model) == 3


@pytest.mark.parametrize(("kind", "found"), [("Mul", ["product", "narrow"]), ("Identity", ["narrow"])])
def test_what_computes_in_float16_is_named(kind: str, found: list[str]) -> None:
    """Moving and widening numbers is none: what stored scales are for."""
    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    inputs = ["stored", "stored"] if kind == "Mul" else ["stored"]
    nodes = [
        helper.make_node(kind, inputs, ["moved"], name="product"),
        helper.make_node("Cast", ["moved"], ["wide"], name="widen", to=single),
        helper.make_node("Cast", ["x"], ["small"], name="narrow", to=half),
    ]
    tensor = numpy_helper.from_array(np.ones(2, np.float16), "stored")
    ends = [helper.make_tensor_value_info(name, type_, [2]) for name, type_ in (("wide", single), ("small", half))]
    start = helper.make_tensor_value_info("x", single, [2])
    moved = helper.make_tensor_value_info("moved", half, [2])
    graph = helper.make_graph(nodes, "g", [start], ends, [tensor], value_info=[moved])
    assert in_half_precision(helper.make_model(graph)) == found
