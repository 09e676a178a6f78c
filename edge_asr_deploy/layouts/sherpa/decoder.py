"""sherpa-onnx's decoder: ours, its caches stacked over the layers, and the scores of tokens that are never said.

The engine begins with caches of zeros for all positions and an offset of 0. It hands back what it gets from the last
call, without looking into it. So the caches here hold the positions so far and no more, which saves copying 448
positions at every token; and they lie in memory as (heads, positions, head_dim), as our attention reads them, though
their declared shape is the engine's: (layers, 1, positions, width).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edge_asr_deploy.families.structure import AttentionShape
from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.onnx_tools.copying import copy_into
from edge_asr_deploy.layouts.sherpa.parts import cross_attention, input_of, output_of, replace_inputs, replace_outputs

FLOAT, INT64 = ir.DataType.FLOAT, ir.DataType.INT64


def with_stacked_caches(model: ir.Model, shape: AttentionShape, heads: Sequence[tuple[int, int]]) -> None:
    """Turn the decoder of a bundle into sherpa-onnx's.

    `heads` are pairs of layer and head whose attention to the audio tells when a word is said. With any, the decoder
    has a fourth output (1, heads, tokens, frames), from which the engine computes the times of tokens.
    """
    graph, layers, width = model.graph, shape.layers, shape.heads * shape.head_dim
    builder = Builder("/sherpa")

    def stacked(name: str, length: str) -> ir.Value:
        return ir.Value(name=name, shape=ir.Shape([layers, 1, length, width]), type=ir.TensorType(FLOAT))

    tokens, logits = input_of(graph, "input_ids"), output_of(graph, "logits")
    own = {kind: stacked(f"in_n_layer_self_{kind[0]}_cache", "past") for kind in ("key", "value")}
    cross = {kind: stacked(f"n_layer_cross_{kind[0]}", "frames") for kind in ("key", "value")}
    offset = ir.Value(name="offset", shape=ir.Shape([1]), type=ir.TensorType(INT64))
    for layer in range(layers):
        _inline_self_attention(graph, layer)
    flag = input_of(graph, "use_cache_branch")
    flag.replace_all_uses_with(builder.constant(np.array([True])))
    outputs = []
    for kind in ("key", "value"):
        so_far = builder.op("Slice", own[kind], builder.integers(0), offset, builder.integers(2))
        ends = builder.integers(layers, shape.heads), offset, builder.integers(shape.head_dim)
        whole = builder.op("Reshape", so_far, builder.op("Concat", *ends, axis=0), allowzero=1)
        for layer, part in enumerate(_split(builder, whole, layers)):
            input_of(graph, f"past_key_values.{layer}.decoder.{kind}").replace_all_uses_with(part)
        present = [output_of(graph, f"present.{layer}.decoder.{kind}") for layer in range(layers)]
        grown = builder.op("Reshape", builder.op("Concat", *present, axis=0), builder.integers(layers, 1, -1, width))
        grown.name = f"out_n_layer_self_{kind[0]}_cache"
        grown.type, grown.shape = ir.TensorType(FLOAT), ir.Shape([layers, 1, "positions", width])
        outputs.append(grown)
    keys, values = (_split(builder, cross[kind], layers) for kind in ("key", "value"))
    attention = []
    for layer in range(layers):
        given = {}
        for kind, parts in (("key", keys), ("value", values)):
            size = builder.integers(1, shape.heads, -1, shape.head_dim)
            given[input_of(graph, f"past_key_values.{layer}.encoder.{kind}")] = builder.op(
                "Reshape", parts[layer], size
            )
        found = cross_attention(graph, layer)
        [attended] = copy_into(graph, found.cached[:1], given)
        found.merged[0].replace_all_uses_with(attended)
        # The attended values are the last product of two: shares of the frames, and values.
        shares = attended.producer().inputs[0]  # type: ignore[union-attr]
        assert shares is not None
        attention.append(shares)
    tokens.name, tokens.shape = "tokens", ir.Shape([1, "n_tokens"])
    logits.shape = ir.Shape([1, "n_tokens", logits.shape[2]])  # type: ignore[index]
    replace_inputs(graph, [tokens, *own.values(), *cross.values(), offset])
    if heads:
        outputs.append(_aligned(builder, attention, heads))
    builder.add_to(graph)
    replace_outputs(graph, [logits, *outputs])


def _inline_self_attention(graph: ir.Graph, layer: int) -> None:
    """The branch that reads the cache, in place of an `If` which has another one for a first call without a cache."""
    node = output_of(graph, f"present.{layer}.decoder.key").producer()
    if node is None or node.op_type != "If":
        return
    copies = copy_into(graph, node.attributes["then_branch"].as_graph().outputs, {})
    for old, new in zip(node.outputs, copies, strict=True):
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        new.name, old.name = old.name, f"{old.name}/branching"


def _split(builder: Builder, stacked: ir.Value, layers: int) -> tuple[ir.Value, ...]:
    return builder.several("Split", layers, stacked, axis=0, num_outputs=layers)


def _aligned(builder: Builder, attention: Sequence[ir.Value], heads: Sequence[tuple[int, int]]) -> ir.Value:
    """The attention of some heads to every frame, (1, heads, tokens, frames)."""
    of_layer: dict[int, list[int]] = {}
    for layer, head in sorted(heads):
        of_layer.setdefault(layer, []).append(head)
    chosen = [
        builder.op("Gather", attention[layer], builder.integers(*some), axis=1) for layer, some in of_layer.items()
    ]
    whole = builder.op("Concat", *chosen, axis=1)
    whole.name = "cross_attention_weights"
    whole.type, whole.shape = ir.TensorType(FLOAT), ir.Shape([1, len(heads), "n_tokens", "frames"])
    return whole


def never_said(model: ir.Model, never: Sequence[int], never_first: Sequence[int]) -> None:
    """Give the tokens `never` a score of minus infinity, and those of `never_first` at offset 0.

    The engine takes the best token of all. Whisper is trained on transcripts that hold none of these.
    """
    graph = model.graph
    tokens = [*never, *(token for token in never_first if token not in set(never))]
    if not tokens:
        return
    logits = output_of(graph, "logits")
    builder = Builder("/sherpa/never")
    always = np.zeros((1, 1, len(tokens)), np.float32)
    always[..., : len(never)] = -np.inf
    at_first = builder.op("Equal", input_of(graph, "offset"), builder.integers(0))
    lowered = builder.op("Where", at_first, builder.constant(np.full_like(always, -np.inf)), builder.constant(always))
    steps = builder.op("Shape", input_of(graph, "tokens"), start=1, end=2)
    one = builder.integers(1)
    rows = builder.op("Concat", one, steps, builder.integers(len(tokens)), axis=0)
    where = builder.op("Expand", builder.constant(np.array([[tokens]], np.int64)), rows)
    scores = builder.op("ScatterElements", logits, where, builder.op("Expand", lowered, rows), axis=2, reduction="add")
    shape, kind = logits.shape, logits.type
    logits.name, scores.name = "logits/all", "logits"
    scores.shape, scores.type = shape, kind
    builder.add_to(graph)
    replace_outputs(graph, [scores, *graph.outputs[1:]])


def metadata(model: ir.Model, entries: Mapping[str, object]) -> None:
    """What the engine reads of the encoder's file: text by name."""
    model.metadata_props.update({key: str(value) for key, value in entries.items()})
