"""Whisper's encoder for any number of frames; the exporter writes it for one window of 30 s only."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edge_asr_deploy.families.whisper import FRAMES_PER_SECOND, MARGIN_ENTRY, TAIL_ENTRY, TAIL_SECONDS
from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.onnx_tools.editing import Finder
from edge_asr_deploy.quantized.model import WindowEnd


def free_length(graph: ir.Graph, positions: int, end: WindowEnd | None) -> None:
    """Let the encoder take any even number of mel frames up to a window; a full window gives the same as before.

    Two mel frames become one of the window's `positions`. The last ones of a shorter input take the learned positions
    of `end`, else the window's last `TAIL_SECONDS`, so that it leaves out silence between the speech and the end.
    Whisper stores something about the whole clip in the last frames: without them the decoder does not notice where the
    speech ends and repeats itself (docs/log/performance.md). Weights must be in place already; they are not changed.
    """
    add = Finder(graph).node("/Add")
    features, table = add.inputs
    assert table is not None
    builder = Builder("/positions")
    frames = builder.op("Shape", features, start=1, end=2)
    zero, whole = builder.integers(0), builder.integers(positions)
    length = TAIL_SECONDS * FRAMES_PER_SECOND if end is None else len(end.positions)
    head = builder.op("Max", builder.op("Sub", frames, builder.integers(length)), zero)
    tail = builder.op("Sub", frames, head)
    ends, last = table, whole
    if end is not None:
        # Behind the window's own last positions stand the learned ones, which every shorter input takes.
        learned = builder.op("Cast", builder.constant(end.positions.astype(np.float16), "end"), to=ir.DataType.FLOAT)
        own = builder.op("Slice", table, builder.integers(positions - length), whole, zero)
        ends = builder.op("Concat", own, learned, axis=0)
        is_whole = builder.op("Equal", frames, whole)
        last = builder.op("Where", is_whole, builder.integers(length), builder.integers(2 * length))
    start = builder.op("Sub", last, tail)
    rows = [builder.op("Slice", table, zero, head, zero), builder.op("Slice", ends, start, last, zero)]
    add.replace_input_with(1, builder.op("Concat", *rows, axis=0))
    builder.add_to(graph)
    # Traced shapes are those of a full window. They become names instead of being dropped: onnxruntime fuses only
    # tensors that it knows to have the same shape.
    names = {positions: "encoder_sequence_length", 2 * positions: "feature_frames"}
    for value in (*graph.inputs, *(value for node in graph for value in node.outputs)):
        if value.shape is not None:
            value.shape = ir.Shape([names.get(size, size) if isinstance(size, int) else size for size in value.shape])


def window_entries(end: WindowEnd | None) -> dict[str, str]:
    """What an encoder's metadata say of the window's end that was learned for it."""
    if end is None:
        return {}
    return {MARGIN_ENTRY: f"{end.margin:g}", TAIL_ENTRY: f"{len(end.positions) / FRAMES_PER_SECOND:g}"}
