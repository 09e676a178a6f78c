"""Moonshine's graphs without their masks, which say how much of each padded clip of a batch is audio.

transformers.js runs one clip at a time and passes no masks. Inside, all of the clip counts as audio.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.graph.onnx_tools.builder import Builder

# The mask of a graph, and the input whose first two axes are batch and samples, or batch and frames.
ENCODER_MASK, SAMPLES = "attention_mask", "input_values"
DECODER_MASK, HIDDEN = "encoder_attention_mask", "encoder_hidden_states"


def without_encoder_mask(model: ir.Model) -> None:
    """Take the encoder's mask away, if it has one: ones for every sample."""
    if (mask := _input(model.graph, ENCODER_MASK)) is not None:
        _fill(model, mask, mask, SAMPLES)


def without_decoder_mask(model: ir.Model) -> None:
    """Take the decoder's mask of samples away, if it has one: ones for every frame, where it was cut down to these."""
    if (mask := _input(model.graph, DECODER_MASK)) is None:
        return
    value = mask
    for _ in range(2):
        users = [node for node, _ in value.uses()]
        if [node.op_type for node in users] != ["Slice"]:
            raise UserError("decoder", DECODER_MASK, "is used in another way; export the bundle again")
        value = users[0].outputs[0]
    _fill(model, mask, value, HIDDEN)


def _input(graph: ir.Graph, name: str) -> ir.Value | None:
    return next((value for value in graph.inputs if value.name == name), None)


def _fill(model: ir.Model, mask: ir.Value, value: ir.Value, like: str) -> None:
    """Put ones (batch, samples or frames) in the place of `value`, and drop the input `mask`."""
    graph = model.graph
    source = _input(graph, like)
    assert source is not None
    builder = Builder(f"/{mask.name}")
    shape = builder.op("Shape", source, start=0, end=2)
    ones = builder.op("ConstantOfShape", shape, value=ir.tensor(np.array([1], np.int64)))
    value.replace_all_uses_with(ones)
    builder.add_to(graph)
    passes.RemoveUnusedNodesPass()(model)
    graph.inputs.remove(mask)
    graph.sort()
