"""Kept columns and kept weights: what onnxruntime computes with, what it runs, and what lies on the disk."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edge_asr_deploy.graph.builder import Builder
from edge_asr_deploy.graph.outliers import float_columns, gather
from edge_asr_deploy.graph.weights import matmul_weight
from edge_asr_deploy.harness.inspect import large_dequantize, operators
from edge_asr_deploy.ptq.outliers import FloatColumns, ScaleCodes, WideCodes
from edge_asr_deploy.ptq.weight import QuantizedWeight
from tests.graph.test_weights import FLOAT, matmul, quantized, run, save

ROWS, COLUMNS = 256, 288


def with_wide(
    bits: int, group: int | None, symmetric: bool, share: float = 0.01, rows: int = ROWS, columns: int = COLUMNS
) -> QuantizedWeight:
    random, weight = np.random.default_rng(bits), quantized(rows, columns, bits, group, symmetric)
    blocks, groups = -(-rows // 16), weight.scales.shape[1]
    scales = ScaleCodes(
        codes=random.integers(0, 8, (rows, groups)).astype(np.uint8),
        base=random.uniform(0.001, 0.01, (blocks, groups)).astype(np.float16),
        step=random.uniform(0.0001, 0.001, (blocks, groups)).astype(np.float16),
        width=3,
    )
    number = round(share * weight.codes.size)
    wide = WideCodes(
        positions=np.sort(random.choice(weight.codes.size, number, replace=False)),
        codes=random.integers(0, 256, number).astype(np.uint8),
        shifts=random.integers(0, 9 - bits, (blocks, groups)).astype(np.uint8),
    )
    return replace(weight, scales=scales.scales(), scale_codes=scales, wide=wide)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(("group", "symmetric"), [(16, False), (32, True), (None, False), (128, False)])
def test_kept_weights_are_part_of_one_low_bit_kernel(
    tmp_path: Path, bits: int, group: int | None, symmetric: bool
) -> None:
    weight = with_wide(bits, group, symmetric)
    path = matmul(tmp_path / "m.onnx", weight)
    assert operators(path) == Counter({"MatMulNBits": 1})
    assert large_dequantize(path, 1) == []
    # A row of the identity at a time, the kernel says what it multiplies with.
    identity = np.eye(COLUMNS, dtype=np.float32)[None]
    np.testing.assert_array_equal(run(path, {"x": identity})[0][0].T, weight.dequantize())
