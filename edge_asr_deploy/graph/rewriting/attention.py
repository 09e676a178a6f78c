"""Attention as one operator (ONNX Attention, opset 23) in place of what the exporter traced.

Torch's trace of an attention module is some fifty Shape, Gather, Concat, Reshape and Pad nodes around two MatMuls. The
Linear layers around it keep their node names, so that a new core can be written between `q_proj`, `k_proj`, `v_proj`
and the output projection. The old nodes then have no readers and are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edge_asr_deploy.families.structure import AttentionShape
from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.onnx_tools.editing import Finder, rename_output

BOOL, FLOAT = ir.DataType.BOOL, ir.DataType.FLOAT


@dataclass(frozen=True)
class Rotary:
    """Cosines and sines of the positions of one call (steps, rotary / 2), and indices into them (batch, steps)."""

    cosine: ir.Value
    sine: ir.Value
    index: ir.Value


def rotary_positions(
    builder: Builder, shape: AttentionShape, batch_of: ir.Value, steps: ir.Value, past: ir.Value | None
) -> Rotary:
    """Rotary positions past .. past + steps (RoFormer, arXiv 2104.09864); `steps` and `past` are int64 of shape (1)."""
    frequencies = shape.theta ** (-np.arange(0, shape.rotary, 2, dtype=np.float64) / shape.rotary)
    scalar = builder.constant(np.array(0, dtype=np.int64))
    one = builder.constant(np.array(1, dtype=np.int64))
    index = builder.op("Range", scalar, builder.op("Squeeze", steps), one)
    positions = builder.op("Add", index, past) if past is not None else index
    column = builder.op("Unsqueeze", builder.op("Cast", positions, to=FLOAT), builder.integers(1))
    angles = builder.op("Mul", column, builder.constant(frequencies.astype(np.float32)[None]))
    batch = builder.op("Shape", batch_of, start=0, end=1)
    rows = builder.op("Expand", index, builder.op("Concat", batch, steps, axis=0))
    return Rotary(builder.op("Cos", angles), builder.op("Sin", angles), rows)


def rotate(builder: Builder, value: ir.Value, rotary: Rotary, shape: AttentionShape) -> ir.Value:
    """Apply the rotary embedding to (batch, steps, heads * head_dim), neighbouring channels paired as in Moonshine."""
    return builder.op(
        "RotaryEmbedding",
        value,
        rotary.cosine,
        rotary.sine,
        rotary.index,
        interleaved=1,
        num_heads=shape.heads,
        rotary_embedding_dim=shape.rotary,
    )


def frame_mask(builder: Builder, samples_mask: ir.Value, frames: ir.Value, shape: AttentionShape) -> ir.Value:
    """A mask over frames, bool (batch, 1, 1, frames), from a mask over samples (batch, samples)."""
    zero, far, axis = builder.integers(0), builder.integers(np.iinfo(np.int64).max), builder.integers(1)
    every = builder.op("Slice", samples_mask, zero, far, axis, builder.integers(shape.samples_per_frame))
    cut = builder.op("Slice", every, zero, frames, axis)
    return builder.op("Unsqueeze", builder.op("Cast", cut, to=BOOL), builder.integers(1, 2))


def spread_mask(builder: Builder, mask: ir.Value, queries: ir.Value) -> ir.Value:
    """Repeat the mask for every query, (batch, 1, queries, frames): onnxruntime's Attention does not broadcast it."""
    one = builder.integers(1)
    return builder.op("Expand", mask, builder.op("Concat", one, one, queries, one, axis=0))


def replace_self_attention(graph: ir.Graph, shape: AttentionShape, rotary: Rotary | None, flag: ir.Value) -> None:
    """Replace every decoder layer's causal self-attention by one operator: over past and new keys when `flag` is true.

    When it is false the past is not read, whatever its shape: engines pass zeros of other batches and lengths there.
    """
    find = Finder(graph)
    outputs = {value.name: value for value in graph.outputs}
    for layer in range(shape.layers):
        path = f"/model/decoder/layers.{layer}/self_attn"
        query, key, value = (find.linear(f"{path}/{name}_proj") for name in "qkv")
        part = Builder(f"{path}/core")
        if rotary is not None:
            query, key = rotate(part, query, rotary, shape), rotate(part, key, rotary, shape)
        past = [find.value(f"past_key_values.{layer}.decoder.{kind}") for kind in ("key", "value")]
        heads = {"q_num_heads": shape.heads, "kv_num_heads": shape.heads}
        branches = {}
        for name, given in (("then_branch", past), ("else_branch", [])):
            branch = Builder(f"{path}/{name}")
            results = branch.several("Attention", 3, query, key, value, None, *given, is_causal=1, **heads)
            for result in results:
                result.type = ir.TensorType(FLOAT)
            branches[name] = branch.branch([*results])
        output, *present = part.several("If", 3, flag, **branches)
        find.node(f"{path}/{shape.output}/MatMul").replace_input_with(0, output)
        part.add_to(graph)
        for kind, new in zip(("key", "value"), present, strict=True):
            rename_output(graph, outputs[f"present.{layer}.decoder.{kind}"], new)
