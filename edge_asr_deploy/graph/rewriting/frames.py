"""Whisper's encoder for any number of frames; the exporter writes it for one window of 30 s only."""

from __future__ import annotations

import onnx_ir as ir

from edge_asr_deploy.families.whisper import FRAMES_PER_SECOND, TAIL_SECONDS
from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.onnx_tools.editing import Finder


def free_length(graph: ir.Graph, positions: int) -> None:
    """Let the encoder take any even number of mel frames up to a window; a full window gives the same as before.

    Two mel frames become one of the window's `positions`. The last `TAIL_SECONDS` always take the window's last
    positions, so that a shorter input leaves out silence between the speech and the end. Whisper stores something about
    the whole clip in the last frames: without them the decoder does not notice where the speech ends and repeats itself
    (docs/log/performance.md). Weights must be in place already; they are not changed.
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
    # Traced shapes are those of a full window. They become names instead of being dropped: onnxruntime fuses only
    # tensors that it knows to have the same shape.
    names = {positions: "encoder_sequence_length", 2 * positions: "feature_frames"}
    for value in (*graph.inputs, *(value for node in graph for value in node.outputs)):
        if value.shape is not None:
            value.shape = ir.Shape([names.get(size, size) if isinstance(size, int) else size for size in value.shape])
