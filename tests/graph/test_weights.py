"""Stored codes become low-bit kernels in onnxruntime, and compute what the codes say."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

import onnx_ir as ir

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.placing.table import int8_logits
from edge_asr_deploy.graph.storing.table import TiedTable
from edge_asr_deploy.graph.storing.weights import float_matrix, matmul_weight, narrow_tensor
from edge_asr_deploy.harness.inspection.inspect import optimized
from edge_asr_deploy.quantized.inputs import Dynamic
from edge_asr_deploy.quantized.scales import PlainScales, TwoLevelScales
from tests.support.optimized import large_dequantize, operators
from tests.support.small_graphs import FLOAT, matmul, quantized, run, save


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(("group", "symmetric"), [(32, True), (32, False), (None, False), (None, True), (128, False)])
def test_every_form_runs_in_one_low_bit_kernel_and_is_exact(
    tmp_path: Path, bits: int, group: int | None, symmetric: bool
) -> None:
    weight = quantized(256, 288, bits, group, symmetric)
    path = matmul(tmp_path / "m.onnx", weight)
    assert operators(path) == Counter({"MatMulNBits": 1})
    assert large_dequantize(path, 1) == []
    x = np.random.default_rng(0).normal(size=(1, 3, 288)).astype(np.float32)
    np.testing.assert_allclose(run(path, {"x": x})[0], x @ weight.dequantize().T, rtol=2e-6, atol=2e-5)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("symmetric", [False, True])
def test_disk_holds_the_codes_the_scales_and_the_zero_points(tmp_path: Path, bits: int, symmetric: bool) -> None:
    weight = quantized(512, 256, bits, 32, symmetric)
    zero_point = 0.0 if symmetric else 0.5 if bits <= 4 else 1
    expected = weight.codes.size * bits / 8 + weight.zero_points.size * (2 + zero_point)
    overhead = 3000
    assert expected <= matmul(tmp_path / "m.onnx", weight).stat().st_size <= expected + overhead


@pytest.mark.parametrize("bits", [3, 4, 5, 6, 8])
@pytest.mark.parametrize("group", [32, 64, None])
@pytest.mark.parametrize("symmetric", [False, True])
def test_one_table_serves_the_embedding_and_the_head(
    tmp_path: Path, bits: int, group: int | None, symmetric: bool
) -> None:
    weight = quantized(500, 96, bits, group, symmetric)
    builder = Builder("table")
    x = ir.Value(name="x", type=FLOAT, shape=ir.Shape(["batch", "steps", 96]))
    tokens = ir.Value(name="tokens", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["batch", "steps"]))
    table = TiedTable.store(builder, weight)
    rows, head = table.embed(builder, tokens), table.head(builder)
    outputs = {"y": (builder.op("MatMul", x, head), ["batch", "steps", 500]), "e": (rows, ["batch", "steps", 96])}
    path = save(tmp_path / "t.onnx", builder, [x, tokens], outputs)
    assert operators(path)["MatMulNBits"] == 1
    assert large_dequantize(path, 1) == []
    stored = weight.codes.size * bits / 8
    assert path.stat().st_size < 1.3 * stored + 20_000, "the table is stored once"
    chosen = np.array([[0, 7, 499], [3, 3, 250]])
    y, e = run(path, {"x": weight.dequantize()[chosen], "tokens": chosen})
    np.testing.assert_array_equal(e, weight.dequantize()[chosen])
    np.testing.assert_allclose(y, weight.dequantize()[chosen] @ weight.dequantize().T, atol=1e-4)


@pytest.mark.parametrize("bits", [4, 5, 6])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("columns", [96, 80])
def test_a_two_level_table_serves_the_embedding_and_both_heads(
    tmp_path: Path, bits: int, symmetric: bool, columns: int
) -> None:
    random = np.random.default_rng(bits)
    weight = quantized(500, columns, bits, 32, symmetric)
    groups = weight.zero_points.shape[1]
    # Around the middle every product fits int8.
    near = np.full((500, groups), 1 << (bits - 1)) - (0 if symmetric else random.integers(0, 2, (500, groups)))
    weight = replace(
        weight,
        component="embedding",
        scales=TwoLevelScales(
            random.uniform(0.001, 0.01, (500, 1)).astype(np.float16),
            random.integers(1, (1 << (7 - bits)) + 1, (500, groups)).astype(np.uint8),
        ),
        zero_points=near.astype(np.uint8),
    )
    builder = Builder("table")
    x = ir.Value(name="x", type=FLOAT, shape=ir.Shape(["batch", "steps", columns]))
    tokens = ir.Value(name="tokens", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["batch", "steps"]))
    table = TiedTable.store(builder, weight)
    whole = int8_logits(builder, x, Dynamic(), table)
    outputs = {
        "y": (builder.op("MatMul", x, table.head(builder)), ["batch", "steps", 500]),
        "z": (whole, ["batch", "steps", 500]),
        "e": (table.embed(builder, tokens), ["batch", "steps", columns]),
    }
    path = save(tmp_path / "t.onnx", builder, [x, tokens], outputs)
    counts = operators(path)
    assert (counts["MatMulNBits"], counts["DynamicQuantizeMatMul"]) == (1, 1)
    # Of a scale for every token onnxruntime makes a copy in every call.
    graph = optimized(path).graph
    [kernel] = [node for node in graph.node if node.op_type == "DynamicQuantizeMatMul"]
    [scale] = [tensor for tensor in graph.initializer if tensor.name == kernel.input[2]]
    assert np.prod(scale.dims) == 1
    chosen = np.array([[0, 7, 499], [3, 3, 250]])
    # Whole numbers up to 255, the ends among them, are what the rounding of activations leaves as they are.
    hidden = random.integers(0, 256, (2, 3, columns)).astype(np.float32)
    hidden[0, 0, :2] = 0, 255
    y, z, e = run(path, {"x": hidden, "tokens": chosen})
    np.testing.assert_array_equal(e, weight.dequantize()[chosen])
    expected = hidden @ weight.dequantize().T
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(z, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("bits", "error"), [(32, 0), (16, 1e-3), (8, 1e-2)])
def test_the_stem_is_folded_back_to_float(tmp_path: Path, bits: int, error: float) -> None:
    kernel = np.random.default_rng(0).normal(size=(8, 4, 3)).astype(np.float32)
    builder = Builder("conv")
    x = ir.Value(name="x", type=FLOAT, shape=ir.Shape([1, 4, 20]))
    y = builder.op("Conv", x, narrow_tensor(builder, kernel, bits, "weight"))
    path = save(tmp_path / "c.onnx", builder, [x], {"y": (y, [1, 8, 18])})
    assert operators(path) == Counter({"Conv": 1})
    samples = np.random.default_rng(1).normal(size=(1, 4, 20)).astype(np.float32)
    expected = np.stack([(samples[0, :, i : i + 3] * kernel).sum((1, 2)) for i in range(18)], axis=-1)
    np.testing.assert_allclose(run(path, {"x": samples})[0][0], expected, atol=error * 10 + 1e-5)


@pytest.mark.parametrize("scale", [np.nan, np.inf, 0, -1])
def test_a_scale_that_cannot_be_is_refused_and_its_layer_named(scale: float) -> None:
    weight = quantized(8, 32, 4, 32, symmetric=True)
    assert isinstance(weight.scales, PlainScales)
    values = weight.scales.values.copy()
    values[3, 0] = scale
    with pytest.raises(UserError, match="layer"):
        matmul_weight(Builder("m"), replace(weight, scales=PlainScales(values)))


def test_values_that_float16_cannot_hold_are_refused() -> None:
    with pytest.raises(UserError, match="float16"):
        float_matrix(Builder("m"), np.array([[1e6]], dtype=np.float32), 16, "weight")


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("vocabulary", [500, 509, 2200], ids=["few groups", "prime", "groups"])
def test_a_shortlist_is_scored_exactly_after_a_pass_over_four_bits(
    tmp_path: Path, bits: int, symmetric: bool, vocabulary: int
) -> None:
    weight = quantized(vocabulary, 96, bits, 32, symmetric)
    builder = Builder("table")
    x = ir.Value(name="x", type=FLOAT, shape=ir.Shape(["batch", "steps", 96]))
    table = TiedTable.store(builder, weight)
    coarse = builder.op("MatMul", x, table.head(builder, 4))
    refined = table.refine(builder, x, coarse, 32)
    shape = ["batch", "steps", vocabulary]
    path = save(tmp_path / "t.onnx", builder, [x], {"coarse": (coarse, shape), "y": (refined, shape)})
    assert operators(path)["MatMulNBits"] == 1
    hidden = np.random.default_rng(1).normal(size=(2, 3, 96)).astype(np.float32)
    rough, found = run(path, {"x": hidden})
    exact = hidden @ weight.dequantize().T
    best = np.argpartition(rough, -32, axis=-1)[..., -32:]
    np.testing.assert_allclose(np.take_along_axis(found, best, -1), np.take_along_axis(exact, best, -1), atol=2e-5)
    rest = found.copy()
    np.put_along_axis(rest, best, -np.inf, -1)
    assert (rest.max(-1) <= np.take_along_axis(found, best, -1).min(-1) + 1e-6).all(), "no other passes the shortlist"
    assert (found.argmax(-1) == exact.argmax(-1)).all()
    assert bits == 4 or np.abs(rough - exact).max() > 1e-3, "the first pass is the rough one"
