"""The form for browsers: the same values to the last bit, and no Cast that their onnxruntime cannot run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("onnx_ir", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

import onnx_ir as ir

from edge_asr_deploy.graph.onnx_tools.builder import Builder, int4, uint4
from edge_asr_deploy.graph.onnx_tools.files import save
from edge_asr_deploy.layouts.web_form import four_bit_casts, to_web_form

FLOAT, BOOL, INT8, UINT4 = ir.DataType.FLOAT, ir.DataType.BOOL, ir.DataType.INT8, ir.DataType.UINT4
ROWS, COLUMNS = 24, 16


def input_value(name: str, kind: ir.DataType, shape: list[int | str]) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(kind), shape=ir.Shape(shape))


def model_of(builder: Builder, inputs: list[ir.Value], output: ir.Value) -> ir.Model:
    output.name, output.type = "y", ir.TensorType(FLOAT)
    graph = ir.Graph(inputs, [output], nodes=[], name="g", opset_imports={"": 23})
    builder.add_to(graph)
    return ir.Model(graph, ir_version=11)


def run(model: ir.Model, path: Path, **feeds: np.ndarray) -> np.ndarray:
    save(model, path)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (result,) = onnxruntime.InferenceSession(path, options).run(None, feeds)
    return np.asarray(result)


def widened(builder: Builder, signed: bool, seed: int, rows: int = ROWS) -> ir.Value:
    """4-bit codes, cast to int8 and on to float."""
    codes = np.random.default_rng(seed).integers(-8 if signed else 0, 8 if signed else 16, (rows, COLUMNS))
    stored = builder.constant(int4(codes) if signed else uint4(codes), "codes")
    return builder.op("Cast", builder.op("Cast", stored, to=INT8), to=FLOAT)


@pytest.mark.parametrize("rows", [ROWS, 5])
@pytest.mark.parametrize("signed", [True, False])
def test_codes_that_a_cast_widens_become_bytes(signed: bool, rows: int, tmp_path: Path) -> None:
    x = input_value("x", FLOAT, [1, rows])
    builder = Builder("/layer")
    model = model_of(builder, [x], builder.op("MatMul", x, widened(builder, signed, 0, rows)))
    feed = np.eye(1, rows, 2, dtype=np.float32)
    before = run(model, tmp_path / "before.onnx", x=feed)
    assert len(four_bit_casts(model)) == 1
    to_web_form(model)
    assert four_bit_casts(model) == []
    assert (run(model, tmp_path / "after.onnx", x=feed) == before).all()
    stored = [value.const_value for value in model.graph.initializers.values() if value.const_value is not None]
    assert sum(tensor.nbytes for tensor in stored if tensor.size > 32) == rows * COLUMNS // 2


def test_bytes_that_a_cast_narrows_stay_bytes(tmp_path: Path) -> None:
    """Codes and zero points of a DequantizeLinear, as the tied table has them."""
    x = input_value("x", FLOAT, [1, 1, ROWS])
    builder = Builder("/table")
    random = np.random.default_rng(0)
    codes, zeros = (builder.constant(random.integers(0, 16, shape).astype(np.uint8)) for shape in ((24, 16), (3, 16)))
    scales = builder.constant(random.random((3, 16)).astype(np.float32))
    narrow = [builder.op("Cast", value, to=UINT4) for value in (codes, zeros)]
    matrix = builder.op("DequantizeLinear", narrow[0], scales, narrow[1], axis=0, block_size=8)
    model = model_of(builder, [x], builder.op("MatMul", x, matrix))
    feed = random.random((1, 1, ROWS)).astype(np.float32)
    before = run(model, tmp_path / "before.onnx", x=feed)
    to_web_form(model)
    assert four_bit_casts(model) == []
    assert (run(model, tmp_path / "after.onnx", x=feed) == before).all()


def test_branches_are_rewritten_too(tmp_path: Path) -> None:
    x, flag = input_value("x", FLOAT, [1, ROWS]), input_value("flag", BOOL, [1])
    branches = []
    for name in ("then", "else"):
        inner = Builder(f"/{name}")
        output = inner.op("MatMul", x, widened(inner, name == "then", len(branches)))
        output.type = ir.TensorType(FLOAT)
        branches.append(inner.branch([output]))
    builder = Builder("/outer")
    model = model_of(builder, [x, flag], builder.op("If", flag, then_branch=branches[0], else_branch=branches[1]))
    feed = np.eye(1, ROWS, 3, dtype=np.float32)
    before = [run(model, tmp_path / "before.onnx", x=feed, flag=np.array([on])) for on in (True, False)]
    assert len(four_bit_casts(model)) == 2
    to_web_form(model)
    assert four_bit_casts(model) == []
    after = [run(model, tmp_path / "after.onnx", x=feed, flag=np.array([on])) for on in (True, False)]
    assert all((one == other).all() for one, other in zip(before, after, strict=True))
