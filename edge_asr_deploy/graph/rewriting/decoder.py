"""One cached decoder file from Optimum's two: every weight once, the cross-attention K/V computed once per utterance.

The body is `decoder_with_past_model.onnx`, which also takes an empty past and a prompt of several tokens. Each layer's
cross-attention is an `If(use_cache_branch)`: one branch attends to the cached K/V where they lie, without a copy (at
1500 frames a pass-through would move 18 MB per token of whisper tiny); the other computes them from the encoder's
output and also hands them out. The k/v projections' weights are initializers of that branch, because onnxruntime does
not fuse quantized weights that an `If` takes from outside.

One query row against many keys is fastest as two plain products, with the keys' channels as the rows of the first
(docs/log/performance.md). So the cached keys of the cross-attention lie in memory as (batch, heads, head_dim, frames),
though their declared shape is that of Optimum's file: nobody but the other branch reads them.

Inputs, outputs and their order are those of Optimum's `decoder_model_merged.onnx`. As there, the cross-attention
outputs are empty when `use_cache_branch` is true, and of batch 0, by which some engines know that they keep their own;
and when it is false the past is not read, so that engines may give zeros of any batch and length. Behind them come the
outputs `queries.N`: the scaled queries of each layer's cross-attention, (batch, heads, steps, head_dim), which are
there anyway. With the keys they give the attention from which the runtime reads when words were said.
"""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir

from edge_asr_deploy.families.structure import QUERIES, AttentionShape
from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.onnx_tools.editing import Finder, constant_of
from edge_asr_deploy.graph.rewriting.attention import (
    BOOL,
    FLOAT,
    frame_mask,
    replace_self_attention,
    rotary_positions,
)

KINDS = ("key", "value")


def merge(first: ir.Model, with_past: ir.Model, shape: AttentionShape) -> tuple[ir.Model, dict[str, ir.Node]]:
    """The merged decoder, float weights still in place, and the MatMuls of the branches by module path.

    `first` is Optimum's `decoder_model.onnx` (it holds the cross-attention k/v projections), `with_past` its
    `decoder_with_past_model.onnx`, which becomes the result.
    """
    graph = with_past.graph
    steps_builder = Builder("/steps")
    _arrange_inputs(first.graph, graph)
    find = Finder(graph)
    tokens, past = find.value("input_ids"), find.value("past_key_values.0.decoder.key")
    steps = steps_builder.op("Shape", tokens, start=1, end=2)
    flag = find.value("use_cache_branch")
    length = steps_builder.op("Where", flag, steps_builder.op("Shape", past, start=2, end=3), steps_builder.integers(0))
    rotary = rotary_positions(steps_builder, shape, tokens, steps, length) if shape.rotary else None
    if shape.rotary:
        _split_gates(graph, find, shape)
    else:
        _learned_positions(steps_builder, find, steps, length)
    # The embedding reads the tokens directly: the traced Reshape before it changes nothing.
    find.node("/model/decoder/embed_tokens/Gather").replace_input_with(1, tokens)
    mask = None
    if "encoder_attention_mask" in {value.name for value in graph.inputs}:
        hidden = find.value("encoder_hidden_states")
        frames = steps_builder.op("Shape", hidden, start=1, end=2)
        present = frame_mask(steps_builder, find.value("encoder_attention_mask"), frames, shape)
        zero, never = (steps_builder.constant(np.array(value, dtype=np.float32)) for value in (0, -np.inf))
        mask = steps_builder.op("Where", present, zero, never)
    replace_self_attention(graph, shape, rotary, flag)
    projections = _replace_cross_attention(first.graph, graph, shape, mask)
    steps_builder.add_to(graph)
    _arrange_outputs(first.graph, graph)
    return with_past, projections


def _arrange_inputs(first: ir.Graph, graph: ir.Graph) -> None:
    """Inputs in the order of Optimum's merged file: those of the first call, the past, `use_cache_branch`."""
    present = {value.name: value for value in graph.inputs}
    leading = [present.get(value.name) or _like(value) for value in first.inputs]
    past = [value for value in graph.inputs if str(value.name).startswith("past_key_values")]
    flag = ir.Value(name="use_cache_branch", shape=ir.Shape([1]), type=ir.TensorType(BOOL))
    for value in list(graph.inputs):
        graph.inputs.remove(value)
    graph.inputs.extend([*leading, *past, flag])
    for value in past:
        # The cached cross-attention K/V are empty on the first call: another length than the encoder's output.
        if ".encoder." in str(value.name) and value.shape is not None:
            value.shape = ir.Shape([value.shape[0], value.shape[1], "encoder_sequence_length_out", value.shape[3]])


def _arrange_outputs(first: ir.Graph, graph: ir.Graph) -> None:
    """Outputs in the order of the first call's file, with its shape of the logits instead of that of one step."""
    present = {value.name: value for value in graph.outputs}
    made = {value.name: value for node in graph for value in node.outputs}
    ordered = []
    for value in first.outputs:
        output = present.get(value.name) or made[value.name]
        output.shape, output.type = value.shape, value.type
        ordered.append(output)
    for output in list(graph.outputs):
        graph.outputs.remove(output)
    queries = (f"{QUERIES}{layer}" for layer in itertools.count())
    graph.outputs.extend([*ordered, *(made[name] for name in itertools.takewhile(made.__contains__, queries))])


def _like(value: ir.Value) -> ir.Value:
    return ir.Value(name=value.name, shape=value.shape, type=value.type)


def _learned_positions(builder: Builder, find: Finder, steps: ir.Value, length: ir.Value) -> None:
    """Whisper's positional rows past .. past + steps, in place of a dozen traced shape nodes."""
    one = builder.constant(np.array(1, dtype=np.int64))
    start = builder.op("Squeeze", length)
    stop = builder.op("Squeeze", builder.op("Add", length, steps))
    positions = builder.op("Unsqueeze", builder.op("Range", start, stop, one), builder.integers(0))
    find.node("/model/decoder/embed_positions/Gather").replace_input_with(1, positions)


def _split_gates(graph: ir.Graph, find: Finder, shape: AttentionShape) -> None:
    """Moonshine's gated MLP: one Split of `fc1`'s output in place of two traced Slices with computed bounds."""
    for layer in range(shape.layers):
        path = f"/model/decoder/layers.{layer}/mlp"
        builder = Builder(f"{path}/halves")
        halves = builder.several("Split", 2, find.linear(f"{path}/fc1"), axis=-1, num_outputs=2)
        for name, half in zip(("Slice", "Slice_1"), halves, strict=True):
            find.node(f"{path}/{name}").outputs[0].replace_all_uses_with(half)
        builder.add_to(graph)


def _replace_cross_attention(
    first: ir.Graph, graph: ir.Graph, shape: AttentionShape, mask: ir.Value | None
) -> dict[str, ir.Node]:
    find, source = Finder(graph), Finder(first)
    flag, hidden = find.value("use_cache_branch"), find.value("encoder_hidden_states")
    projections: dict[str, ir.Node] = {}
    for layer in range(shape.layers):
        path = f"/model/decoder/layers.{layer}/encoder_attn"
        outer = Builder(f"{path}/core")
        scale = outer.constant(np.array(shape.head_dim**-0.5, dtype=np.float32))
        query = _split_heads(outer, outer.op("Mul", find.linear(f"{path}/q_proj"), scale), shape)
        query.name, query.type = f"{QUERIES}{layer}", ir.TensorType(FLOAT)
        query.shape = ir.Shape(["batch_size", shape.heads, "decoder_sequence_length", shape.head_dim])
        cached = Builder(f"{path}/cached")
        keys, values = (find.value(f"past_key_values.{layer}.encoder.{kind}") for kind in KINDS)
        columns = cached.op("Reshape", keys, cached.integers(0, 0, shape.head_dim, -1))
        attended = _attend(cached, query, columns, values, mask)
        nothing = [cached.op("Identity", cached.constant(_empty(shape))) for _ in KINDS]
        fresh = Builder(f"{path}/fresh")
        projected = []
        for name in ("k_proj", "v_proj"):
            product, node = _project(fresh, source, f"{path}/{name}", hidden)
            projections[f"model.decoder.layers.{layer}.encoder_attn.{name}"] = node
            projected.append(product)
        columns, values = (
            _split_heads(fresh, projected[0], shape, channels_first=True),
            _split_heads(fresh, projected[1], shape),
        )
        keys = fresh.op("Reshape", columns, fresh.integers(0, 0, -1, shape.head_dim))
        outputs = [_attend(fresh, query, columns, values, mask), keys, values]
        for value in (attended, *nothing, *outputs):
            value.type = ir.TensorType(FLOAT)
        merged, *present = outer.several(
            "If",
            3,
            flag,
            then_branch=cached.branch([attended, *nothing]),
            else_branch=fresh.branch(outputs),
        )
        for kind, value in zip(KINDS, present, strict=True):
            value.name = f"present.{layer}.encoder.{kind}"
        joined = outer.op("Transpose", merged, perm=[0, 2, 1, 3])
        joined = outer.op("Reshape", joined, outer.integers(0, 0, shape.heads * shape.head_dim))
        find.node(f"{path}/{shape.output}/MatMul").replace_input_with(0, joined)
        outer.add_to(graph)
    return projections


def _project(builder: Builder, source: Finder, path: str, hidden: ir.Value) -> tuple[ir.Value, ir.Node]:
    """The Linear at `path` of the first call's file, rebuilt over `hidden` with the same float weight."""
    weight = builder.constant(constant_of(source.node(f"{path}/MatMul").inputs[1]), f"{path.rsplit('/', 1)[1]}_weight")
    product = builder.op("MatMul", hidden, weight)
    node = builder.nodes[-1]
    try:
        bias = source.node(f"{path}/Add")
    except KeyError:
        return product, node
    array = next(constant_of(value) for value in bias.inputs if value is not None and value.const_value is not None)
    return builder.op("Add", product, builder.constant(array, f"{path.rsplit('/', 1)[1]}_bias")), node


def _attend(builder: Builder, query: ir.Value, columns: ir.Value, values: ir.Value, mask: ir.Value | None) -> ir.Value:
    """`query` (batch, heads, steps, head_dim), scaled, `columns` (batch, heads, head_dim, frames), `values` (batch,
    heads, frames, head_dim), `mask` added to the scores -> (batch, heads, steps, head_dim)."""
    scores = builder.op("MatMul", query, columns)
    if mask is not None:
        scores = builder.op("Add", scores, mask)
    return builder.op("MatMul", builder.op("Softmax", scores, axis=-1), values)


def _split_heads(builder: Builder, value: ir.Value, shape: AttentionShape, channels_first: bool = False) -> ir.Value:
    """(batch, steps, heads * head_dim) -> (batch, heads, steps, head_dim); `channels_first`: (..., head_dim, steps)."""
    split = builder.op("Reshape", value, builder.integers(0, 0, shape.heads, shape.head_dim))
    return builder.op("Transpose", split, perm=[0, 2, 3, 1] if channels_first else [0, 2, 1, 3])


def _empty(shape: AttentionShape) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Of the shape that Optimum's merging gives to outputs which only the other branch has."""
    return np.zeros((0, shape.heads, 1, shape.head_dim), dtype=np.float32)
