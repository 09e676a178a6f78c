"""Kept columns and kept weights: what onnxruntime computes with, what it runs, and what lies on the disk."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

import onnx_ir as ir

from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.storing.outliers import float_columns, gather
from edge_asr_deploy.graph.storing.weights import matmul_weight
from edge_asr_deploy.quantized.outliers import FinerCodes, FloatColumns
from edge_asr_deploy.quantized.scales import CodedScales
from edge_asr_deploy.quantized.weight import QuantizedWeight
from tests.support.optimized import large_dequantize, operators
from tests.support.small_graphs import FLOAT, matmul, quantized, run, save

ROWS, COLUMNS = 256, 288


def with_finer_codes(
    bits: int, group: int | None, symmetric: bool, share: float = 0.01, rows: int = ROWS, columns: int = COLUMNS
) -> QuantizedWeight:
    random, weight = np.random.default_rng(bits), quantized(rows, columns, bits, group, symmetric)
    blocks, groups = -(-rows // 16), weight.zero_points.shape[1]
    scales = CodedScales(
        codes=random.integers(0, 8, (rows, groups)).astype(np.uint8),
        base=random.uniform(0.001, 0.01, (blocks, groups)).astype(np.float16),
        step=random.uniform(0.0001, 0.001, (blocks, groups)).astype(np.float16),
        width=3,
    )
    number = round(share * weight.codes.size)
    finer = FinerCodes(
        positions=np.sort(random.choice(weight.codes.size, number, replace=False)),
        codes=random.integers(0, 256, number).astype(np.uint8),
        shifts=random.integers(0, 9 - bits, (blocks, groups)).astype(np.uint8),
    )
    return replace(weight, scales=scales, outliers=finer)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(("group", "symmetric"), [(16, False), (32, True), (None, False), (128, False)])
def test_kept_weights_are_part_of_one_low_bit_kernel(
    tmp_path: Path, bits: int, group: int | None, symmetric: bool
) -> None:
    weight = with_finer_codes(bits, group, symmetric)
    path = matmul(tmp_path / "m.onnx", weight)
    assert operators(path) == Counter({"MatMulNBits": 1})
    assert large_dequantize(path, 1) == []
    # A row of the identity at a time, the kernel says what it multiplies with.
    identity = np.eye(COLUMNS, dtype=np.float32)[None]
    np.testing.assert_array_equal(run(path, {"x": identity})[0][0].T, weight.dequantize())


def with_columns(bits: int, group: int | None, symmetric: bool, number: int = 4) -> QuantizedWeight:
    random, weight = np.random.default_rng(bits), quantized(ROWS, COLUMNS, bits, group, symmetric)
    index = np.sort(random.choice(COLUMNS, number, replace=False))
    codes, width = weight.codes.copy(), COLUMNS if group is None else group
    codes[:, index] = weight.zero_points[:, index // width]
    values = random.normal(size=(ROWS, number)).astype(np.float16)
    return replace(weight, codes=codes, outliers=FloatColumns(index, values))


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(("group", "symmetric"), [(32, False), (32, True), (None, False)])
def test_kept_columns_are_gathered_beside_the_low_bit_kernel(
    tmp_path: Path, bits: int, group: int | None, symmetric: bool
) -> None:
    weight = with_columns(bits, group, symmetric)
    columns = weight.float_columns
    assert columns is not None
    builder, x = Builder("layer"), ir.Value(name="x", type=FLOAT, shape=ir.Shape(["batch", "steps", COLUMNS]))
    apart = float_columns(builder, gather(builder, x, columns.index), columns)
    y = builder.op("Add", builder.op("MatMul", x, matmul_weight(builder, weight)), apart)
    path = save(tmp_path / "m.onnx", builder, [x], {"y": (y, ["batch", "steps", ROWS])})
    assert operators(path) == Counter({"MatMulNBits": 1, "Gather": 1, "MatMul": 1, "Add": 1})
    identity = np.eye(COLUMNS, dtype=np.float32)[None]
    np.testing.assert_array_equal(run(path, {"x": identity})[0][0].T, weight.dequantize())


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.1])
def test_the_effective_bits_are_what_is_stored(bits: int, share: float) -> None:
    weight, builder = with_finer_codes(bits, 32, symmetric=False, share=share, rows=512), Builder("layer")
    matmul_weight(builder, weight)
    stored = sum(value.const_value.nbytes for value in builder.initializers if value.const_value is not None)
    # Shapes, masks and the like come on top.
    assert 0 <= stored - weight.effective_bits * weight.codes.size / 8 < 500
    assert weight.effective_bits < bits + (bits + 5 + 0.5) / 32 + 25 * share + 0.01


@pytest.mark.parametrize("shape", [(20, 40), (7, 32)])
def test_channels_and_groups_need_not_come_out_even(tmp_path: Path, shape: tuple[int, int]) -> None:
    weight = with_finer_codes(3, 16, symmetric=False, share=0.1, rows=shape[0], columns=shape[1])
    path = matmul(tmp_path / "m.onnx", weight)
    identity = np.eye(shape[1], dtype=np.float32)[None]
    np.testing.assert_allclose(run(path, {"x": identity})[0][0].T, weight.dequantize(), rtol=1e-6)


def test_a_layer_without_outliers_keeps_its_narrow_kernel(tmp_path: Path) -> None:
    import onnx

    from edge_asr_deploy.harness.inspection.inspect import optimized

    for share, bits in ((0.0, 4), (0.01, 8)):
        model: onnx.ModelProto = optimized(
            matmul(tmp_path / "m.onnx", with_finer_codes(3, 32, symmetric=False, share=share))
        )
        (node,) = model.graph.node
        assert {a.name: a.i for a in node.attribute}["bits"] == bits
