"""Whisper's encoder for any number of frames: the exporter writes it for one window of 30 s."""

from __future__ import annotations

import onnx_ir as ir

from edge_asr_deploy.graph.builder import Builder
from edge_asr_deploy.graph.editing import Finder


def free_length(graph: ir.Graph) -> None:
    """Let the encoder take any even number of mel frames up to its window; a full one gives what it gave before.

    Two mel frames become one position, and the positional table is cut to as many. Weights are not touched: this comes
    after they are in place.
    """
    add = Finder(graph).node("/Add")
    heard, table = add.inputs
    builder = Builder("/positions")
    frames = builder.op("Shape", heard, start=1, end=2)
    cut = builder.op("Slice", table, builder.integers(0), frames, builder.integers(0))
    add.replace_input_with(1, cut)
    builder.add_to(graph)
    [features], [hidden] = graph.inputs, graph.outputs
    assert features.shape is not None and hidden.shape is not None
    shapes = features.shape, hidden.shape
    # What was traced for the values between is a full window's.
    for node in graph:
        for value in node.outputs:
            value.shape = None
    features.shape = ir.Shape([*shapes[0][:2], "feature_frames"])
    hidden.shape = ir.Shape([shapes[1][0], "encoder_sequence_length", shapes[1][2]])
