"""The tied table with rare tokens in fewer bits: the same matrix for embedding, head and shortlist, and fewer bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

import onnx_ir as ir

from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.storing.table import TiedTable
from edge_asr_deploy.quantized.rare import RareRows
from edge_asr_deploy.quantized.weight import QuantizedWeight
from tests.support.optimized import large_dequantize, operators
from tests.support.small_graphs import FLOAT, quantized, run, save

VOCABULARY, COLUMNS = 500, 96


def table_of(bits: int, dropped: int, symmetric: bool, start: int, stop: int) -> QuantizedWeight:
    weight = quantized(VOCABULARY, COLUMNS, bits, 32, symmetric)
    codes, zeros = weight.codes.copy(), weight.zero_points.copy()
    kept = np.uint8(0xFF << dropped & 0xFF)
    codes[start:stop] &= kept
    zeros[start:stop] &= kept
    return replace(weight, component="embedding", codes=codes, zero_points=zeros, rare=RareRows(start, stop, dropped))


@pytest.mark.parametrize(("bits", "dropped"), [(6, 2), (5, 1), (8, 4), (7, 3), (4, 2), (6, 1), (3, 1)])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("start", "stop"), [(100, 470), (1, 500), (499, 500), (250, 251)])
def test_every_reader_sees_the_same_matrix(
    tmp_path: Path, bits: int, dropped: int, symmetric: bool, start: int, stop: int
) -> None:
    weight = table_of(bits, dropped, symmetric, start, stop)
    matrix = weight.dequantize()
    builder = Builder("table")
    x = ir.Value(name="x", type=FLOAT, shape=ir.Shape(["batch", "steps", COLUMNS]))
    tokens = ir.Value(name="tokens", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["batch", "steps"]))
    table = TiedTable.store(builder, weight)
    whole = builder.op("MatMul", x, table.head(builder))
    coarse = builder.op("MatMul", x, table.head(builder, 4)) if bits > 4 else whole
    outputs = {
        "y": (whole, ["batch", "steps", VOCABULARY]),
        "s": (table.refine(builder, x, coarse, 32), ["batch", "steps", VOCABULARY]),
        "e": (table.embed(builder, tokens), ["batch", "steps", COLUMNS]),
    }
    path = save(tmp_path / "t.onnx", builder, [x, tokens], outputs)
    assert operators(path)["MatMulNBits"] == (2 if bits > 4 else 1)
    assert large_dequantize(path, 1) == []
    chosen = np.array([[0, start - 1, start, stop - 1], [min(stop, VOCABULARY - 1), VOCABULARY - 1, 7, 250]])
    y, s, e = run(path, {"x": matrix[chosen], "tokens": chosen})
    expected = matrix[chosen] @ matrix.T
    np.testing.assert_array_equal(e, matrix[chosen])
    np.testing.assert_allclose(y, expected, atol=1e-4)
    assert (s.argmax(-1) == expected.argmax(-1)).all()
    np.testing.assert_allclose(s.max(-1), expected.max(-1), atol=1e-4)


def test_the_bits_that_rare_tokens_lack_are_not_stored() -> None:
    def size(weight: QuantizedWeight) -> int:
        builder = Builder("table")
        TiedTable.store(builder, weight)
        return sum(value.const_value.nbytes for value in builder.initializers if value.const_value is not None)

    rare = table_of(6, 2, False, 100, 470)
    saved = size(replace(rare, rare=None)) - size(rare)
    assert saved == 369 * COLUMNS * 2 // 8
    assert rare.effective_bits < replace(rare, rare=None).effective_bits
