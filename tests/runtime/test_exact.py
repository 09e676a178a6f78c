"""On x86 without VNNI integer products are computed on unsigned operands, and are as exact as elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

pytest.importorskip("torch")

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.cpu import CpuFeatures
from edge_asr_deploy.runtime.exact import needs_unsigned, with_unsigned_operands

OLD = CpuFeatures("x86_64", frozenset({"avx2"}))
NEW = CpuFeatures("x86_64", frozenset({"avx2", "avx_vnni"}))
ARM = CpuFeatures("aarch64", frozenset({"asimddp"}))


@pytest.fixture
def product(tmp_path: Path) -> Path:
    """MatMulInteger of the largest operands: two of their products do not fit 16 bits."""
    weights = onnx.numpy_helper.from_array(np.full((64, 8), 127, np.int8), "w")
    zero = onnx.numpy_helper.from_array(np.array(0, np.uint8), "z")
    node = onnx.helper.make_node("MatMulInteger", ["x", "w", "z"], ["y"])
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, ["rows", 64])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT32, ["rows", 8])
    graph = onnx.helper.make_graph([node], "g", [x], [y], [weights, zero])
    path = tmp_path / "m.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def test_sums_that_leave_sixteen_bits_are_exact(product: Path) -> None:
    session = onnxruntime.InferenceSession(with_unsigned_operands(product))
    (sums,) = session.run(None, {"x": np.full((5, 64), 255, np.uint8)})
    assert (sums == 64 * 255 * 127).all()


def test_what_is_unsigned_already_stays(product: Path) -> None:
    """Layouts for other engines ship unsigned operands, and our runtime proves them."""
    once = with_unsigned_operands(product)
    product.write_bytes(once)
    assert with_unsigned_operands(product) == once


@pytest.mark.parametrize(("features", "needed"), [(OLD, True), (NEW, False), (ARM, False)])
def test_only_processors_that_saturate_need_it(product: Path, features: CpuFeatures, needed: bool) -> None:
    assert needs_unsigned(product, features) is needed


def test_graphs_without_integer_products_stay(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"Cast MatMulNBits")
    assert not needs_unsigned(path, OLD)


def test_a_missing_package_is_named(product: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UserError, match="onnx: is not installed"):
        with_unsigned_operands(product)
