"""sherpa-onnx's encoder: ours, and the cross-attention keys and values of all decoder layers, made once for a clip.

Only the decoder beside it reads the keys and values. So they lie in memory as the decoder multiplies them fastest
(keys as heads, head_dim, frames), though their declared shape is the engine's: (layers, 1, frames, width).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edge_asr_deploy.families.structure import AttentionShape
from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.onnx_tools.copying import copy_into
from edge_asr_deploy.layouts.sherpa.parts import cross_attention, input_of, replace_inputs, replace_outputs
from edge_asr_deploy.runtime.audio.features import DYNAMIC_RANGE

FLOAT, INT64, BOOL = ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.BOOL
# The features are (log10 + 4) / 4, so that the range of log10 shrinks by this.
SHRUNK = 4.0
MEL_PER_SECOND = 100
MARGIN_SECONDS = 3


def with_cross_attention(encoder: ir.Model, decoder: ir.Model, shape: AttentionShape, mels: int, window: int) -> None:
    """Turn the encoder of a bundle into sherpa-onnx's; the projections of keys and values come from `decoder`."""
    graph, width = encoder.graph, shape.heads * shape.head_dim
    builder = Builder("/sherpa")
    mel = ir.Value(name="mel", shape=ir.Shape([1, mels, "T"]), type=ir.TensorType(FLOAT))
    features, hidden = graph.inputs[0], graph.outputs[0]
    features.replace_all_uses_with(padded_as_whisper(builder, mel, window))
    replace_inputs(graph, [mel])
    given = {input_of(decoder.graph, "encoder_hidden_states"): hidden}
    both = [copy_into(graph, cross_attention(decoder.graph, layer).fresh[1:], given) for layer in range(shape.layers)]
    outputs = []
    for kind, layers in zip("kv", zip(*both, strict=True), strict=True):
        stacked = builder.op("Concat", *layers, axis=0)
        output = builder.op("Reshape", stacked, builder.integers(shape.layers, 1, -1, width))
        output.name = f"n_layer_cross_{kind}"
        output.type, output.shape = ir.TensorType(FLOAT), ir.Shape([shape.layers, 1, "frames", width])
        outputs.append(output)
    builder.add_to(graph)
    replace_outputs(graph, outputs)


def padded_as_whisper(builder: Builder, mel: ir.Value, window: int) -> ir.Value:
    """The engine's features (1, mels, frames), padded as the model was trained: with silence, to an even length.

    The engine appends frames of zeros, which are no silence: the features of silence lie `DYNAMIC_RANGE` below the
    loudest one. No frame of sound has zeros in all bands. It appends 10 s of them, of which the encoder takes
    `MARGIN_SECONDS`: the last 2 s lie at the end of the model's window (`graph/rewriting/frames.py`), and more silence
    before them helps less than it costs. An input of the whole `window` stays whole.
    """
    zero, two = builder.constant(np.array(0, np.float32)), builder.integers(2)
    nothing, whole = builder.integers(0), builder.integers(window)
    loudest = builder.op("ReduceMax", builder.op("Abs", mel), builder.integers(0, 1), keepdims=0)
    is_sound = builder.op("Cast", builder.op("Greater", loudest, zero), to=INT64)
    sounding = builder.op("ReduceSum", is_sound, nothing)
    sound = builder.op("Slice", mel, nothing, sounding, two)
    depth = builder.constant(np.array(DYNAMIC_RANGE / SHRUNK, np.float32))
    silence = builder.op("Sub", builder.op("ReduceMax", sound, keepdims=0), depth)
    given = builder.op("Shape", mel, start=2, end=3)
    enough = builder.op("Add", sounding, builder.integers(MARGIN_SECONDS * MEL_PER_SECOND))
    taken = builder.op("Where", builder.op("Equal", given, whole), whole, builder.op("Min", given, enough))
    even = builder.op("Add", taken, builder.op("Mod", taken, two))
    missing = builder.op("Sub", even, sounding)
    return builder.op("Pad", sound, builder.op("Concat", nothing, missing, axis=0), silence, two)
