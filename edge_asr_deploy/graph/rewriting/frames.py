"""Whisper's encoder for any number of frames: the exporter writes it for one window of 30 s."""

from __future__ import annotations

import onnx_ir as ir

from edge_asr_deploy.families.whisper import FRAMES_PER_SECOND, TAIL_SECONDS
from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.onnx_tools.editing import Finder


def free_length(graph: ir.Graph, positions: int) -> None:
    """Let the encoder take any even number of mel frames up to a window; a full one gives what it gave before.

    Two mel frames become one of the window's `positions`. The last `TAIL_SECONDS` always take the window's last ones:
    in a shorter input what is left out is a piece of the silence between speech and end. Whisper keeps something about
    the whole clip in the last frames; with them a decoder notices where the speech ends, without them it repeats itself
    (docs/log/performance.md). Weights are not touched: this comes after they are in place.
    """
    add = Finder(graph).node("/Add")
    features, table = add.inputs
    builder = Builder("/positions")
    frames = builder.op("Shape", features, start=1, end=2)
    zero, whole = builder.integers(0), builder.integers(positions)
    head = builder.op("Max", builder.op("Sub", frames, builder.integers(TAIL_SECONDS * FRAMES_PER_SECOND)), zero)
    first = builder.op("Sub", whole, builder.op("Sub", frames, head))
    rows = [builder.op("Slice", table, zero, head, zero), builder.op("Slice", table, first, whole, zero)]
    add.replace_input_with(1, builder.op("Concat", *rows, axis=0))
    builder.add_to(graph)
    # Traced shapes are a full window's. Named, not dropped: onnxruntime fuses only what it knows to be of one shape.
    names = {positions: "encoder_sequence_length", 2 * positions: "feature_frames"}
    for value in (*graph.inputs, *(value for node in graph for value in node.outputs)):
        if value.shape is not None:
            value.shape = ir.Shape([names.get(size, size) if isinstance(size, int) else size for size in value.shape])
