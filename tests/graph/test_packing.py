"""Codes of every width come back from the bytes they are packed in, in numpy and in onnxruntime."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("onnx_ir", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.storing.packing import float_nodes, pack, planes_of, store, unpack_nodes

WIDTHS = range(1, 9)


def codes_of(rows: int, columns: int, bits: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << bits, (rows, columns)).astype(np.uint8)


def unpack(planes: list[np.ndarray], bits: int, axis: int, length: int) -> np.ndarray:
    """The inverse of `pack` in numpy; `length` is that of `axis` before padding."""
    codes: np.ndarray | None = None
    shift = 0
    for width, plane in zip(planes_of(bits), planes, strict=True):
        mask = np.uint8((1 << width) - 1)
        runs = [(plane >> np.uint8(number * width)) & mask for number in range(8 // width)]
        part = np.concatenate(runs, axis=axis) << np.uint8(shift)
        codes = part if codes is None else codes | part
        shift += width
    assert codes is not None
    return np.take(codes, np.arange(length), axis=axis)


@pytest.mark.parametrize("bits", WIDTHS)
def test_planes_add_up_to_the_width(bits: int) -> None:
    assert sum(planes_of(bits)) == bits


@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    bits=st.integers(1, 8),
    axis=st.integers(0, 1),
    seed=st.integers(0, 9),
)
@settings(deadline=None)
def test_unpacking_undoes_packing(rows: int, columns: int, bits: int, axis: int, seed: int) -> None:
    codes = codes_of(rows, columns, bits, seed)
    planes = pack(codes, bits, axis)
    np.testing.assert_array_equal(unpack(planes, bits, axis, codes.shape[axis]), codes)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("axis", [0, 1])
def test_packed_codes_take_their_width_and_no_more(bits: int, axis: int) -> None:
    codes = codes_of(64, 32, bits, 0)
    assert sum(plane.nbytes for plane in pack(codes, bits, axis)) * 8 == codes.size * bits


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(16, 24), (13, 11)])
def test_the_operators_unpack_to_the_same_codes(bits: int, axis: int, shape: tuple[int, int]) -> None:
    codes = codes_of(*shape, bits, 1)
    builder = Builder("unpack")
    planes = store(builder, codes, bits, axis, "codes")
    unpacked = unpack_nodes(builder, planes, bits, axis, shape[axis], shape[axis + 1 :])
    np.testing.assert_array_equal(computed(builder, unpacked, ir.DataType.UINT8), codes)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("columns", [24, 11])
def test_rows_that_are_looked_up_come_as_floats(bits: int, columns: int) -> None:
    codes = codes_of(16, columns, bits, 1)
    builder = Builder("unpack")
    planes = [
        builder.op("Gather", plane, builder.constant(np.array([[3, 0, 15], [1, 1, 2]])), axis=0)
        for plane in store(builder, codes, bits, 1, "codes")
    ]
    rows = computed(builder, float_nodes(builder, planes, bits, columns), ir.DataType.FLOAT)
    np.testing.assert_array_equal(rows, codes[[[3, 0, 15], [1, 1, 2]]].astype(np.float32))


def computed(builder: Builder, value: ir.Value, kind: ir.DataType) -> np.ndarray:
    output = builder.op("Identity", value)
    output.type = ir.TensorType(kind)
    graph = ir.Graph([], [output], nodes=[], opset_imports={"": 21}, name="unpack")
    builder.add_to(graph)
    model = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    [array] = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {})
    return np.asarray(array)


def test_a_code_too_large_for_its_width_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit 3 bits"):
        pack(np.array([[8]], dtype=np.uint8), 3, 0)


@pytest.mark.parametrize("bits", [0, 9])
def test_widths_that_cannot_be_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="1 to 8 bits"):
        planes_of(bits)
