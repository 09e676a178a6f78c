"""Graphs that take no masks: every sample and every frame counts as audio."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("onnx_ir", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

import onnx_ir as ir

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.onnx_tools.files import save
from edge_asr_deploy.layouts.without_masks import without_decoder_mask, without_encoder_mask

FLOAT, INT64 = ir.DataType.FLOAT, ir.DataType.INT64
RATE = 4


def graph(mask_name: str, source_name: str, axes: int, sliced: bool = True) -> ir.Model:
    """The mean of an input over its second axis, where every RATEth entry of a mask of samples says what counts."""
    mask = ir.Value(name=mask_name, type=ir.TensorType(INT64), shape=ir.Shape(["batch", "samples"]))
    shape = ir.Shape(["batch", "steps", 3][:axes])
    source = ir.Value(name=source_name, type=ir.TensorType(FLOAT), shape=shape)
    builder = Builder("/mask")
    far, zero, one = builder.integers(2**62), builder.integers(0), builder.integers(1)
    steps = builder.op("Shape", source, start=1, end=2)
    value = mask
    if sliced:
        every = builder.op("Slice", value, zero, far, one, builder.integers(RATE))
        value = builder.op("Slice", every, zero, steps, one)
    counted = builder.op("Cast", value, to=FLOAT)
    output = builder.op(
        "Add", builder.op("ReduceSum", source, keepdims=0), builder.op("ReduceSum", counted, keepdims=0)
    )
    output.name, output.type, output.shape = "y", ir.TensorType(FLOAT), ir.Shape([])
    made = ir.Graph([mask, source], [output], nodes=[], name="g", opset_imports={"": 23})
    builder.add_to(made)
    return ir.Model(made, ir_version=11)


def run(model: ir.Model, path: Path, name: str, value: np.ndarray) -> float:
    save(model, path)
    session = onnxruntime.InferenceSession(path)
    assert [given.name for given in session.get_inputs()] == [name]
    return float(session.run(None, {name: value})[0])


def test_a_decoder_counts_every_frame(tmp_path: Path) -> None:
    model = graph("encoder_attention_mask", "encoder_hidden_states", 3)
    without_decoder_mask(model)
    assert run(model, tmp_path / "m.onnx", "encoder_hidden_states", np.zeros((1, 7, 3), np.float32)) == 7


def test_an_encoder_counts_every_sample(tmp_path: Path) -> None:
    model = graph("attention_mask", "input_values", 2)
    without_encoder_mask(model)
    assert run(model, tmp_path / "m.onnx", "input_values", np.zeros((1, 12), np.float32)) == 12 / RATE


def test_a_graph_without_a_mask_stays(tmp_path: Path) -> None:
    model = graph("another", "encoder_hidden_states", 3)
    without_decoder_mask(model)
    without_encoder_mask(model)
    assert [value.name for value in model.graph.inputs] == ["another", "encoder_hidden_states"]


def test_a_mask_that_is_used_in_another_way_is_refused() -> None:
    with pytest.raises(UserError, match="is used in another way"):
        without_decoder_mask(graph("encoder_attention_mask", "encoder_hidden_states", 3, sliced=False))
