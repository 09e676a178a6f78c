"""The encoder's self-attention over all frames, in blocks of queries: only one block's scores are in memory at a time.

For 30 s of whisper tiny.en all scores take 54 MB, those of one block 4.5 MB. In `int8` both products multiply integers:
their operands are rounded in every call (`proof.fake_int8` has the formulas).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edge_asr_deploy.families.structure import AttentionShape
from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.onnx_tools.editing import Finder
from edge_asr_deploy.graph.rewriting.attention import frame_mask, rotary_positions, rotate, spread_mask
from edge_asr_deploy.graph.storing.integer import WHOLE_ROW, product_name
from edge_asr_deploy.quantized.inputs import SIGNED_TOP, SMALLEST, TOP
from edge_asr_deploy.quantized.model import Int8Attention

FLOAT, INT8 = ir.DataType.FLOAT, ir.DataType.INT8
# Added to the scores of padded frames.
FAR_BELOW = -1e30
# Blocks of float attention. 12 blocks, as in Whisper's int8 attention, would take 4 % more time.
FLOAT_BLOCKS = 6


@dataclass(frozen=True)
class Blocks:
    """How the queries of one call are split: into `number` blocks of these `sizes`, int64 (number,), or not at all.

    `mask` is added to the scores of every block. `row` (1, frames), float32, times a tensor is its mean over frames.
    """

    number: int
    sizes: ir.Value | None
    mask: ir.Value | None
    row: ir.Value | None = None


def replace_encoder_attention(graph: ir.Graph, shape: AttentionShape, int8: Int8Attention | None) -> None:
    """Replace every encoder layer's self-attention, by float attention where `int8` is None.

    Moonshine's has rotary positions and a mask.
    """
    find, builder = Finder(graph), Builder("/attention")
    hidden = find.linear("/layers.0/self_attn/q_proj")
    frames = builder.op("Shape", hidden, start=1, end=2)
    mask, rotary = None, None
    if shape.rotary:
        rotary = rotary_positions(builder, shape, hidden, frames, None)
        mask = frame_mask(builder, find.value("attention_mask"), frames, shape)
    blocks = split_queries(builder, frames, mask, int8)
    attend = int8_attention if int8 else float_attention
    for layer in range(shape.layers):
        path, name = f"/layers.{layer}/self_attn", f"model.encoder.layers.{layer}.self_attn"
        query, key, value = (find.linear(f"{path}/{name}_proj") for name in "qkv")
        part = Builder(f"{path}/core")
        if rotary is not None:
            query, key = rotate(part, query, rotary, shape), rotate(part, key, rotary, shape)
        output = attend(part, query, key, value, blocks, shape)
        output.name = product_name(name)
        find.node(f"{path}/{shape.output}/MatMul").replace_input_with(0, output)
        part.add_to(graph)
    builder.add_to(graph)


def split_queries(
    builder: Builder, frames: ir.Value, mask: ir.Value | None, int8: Int8Attention | None = None
) -> Blocks:
    """Blocks over `frames` queries (int64 (1)), all of one size but the last.

    `mask`: bool (batch, 1, 1, frames), true for real frames; None where no frame is padding.
    """
    number = int8.blocks if int8 else FLOAT_BLOCKS
    if mask is not None and int8 is None:
        # onnxruntime's Attention takes no empty block, which Moonshine's shortest clips would give.
        return Blocks(number, None, spread_mask(builder, mask, frames))
    size = builder.op("Div", frames, builder.integers(number))
    last = builder.op("Sub", frames, builder.op("Mul", size, builder.integers(number - 1)))
    sizes = builder.op("Concat", *[size] * (number - 1), last, axis=0)
    row = _equal_shares(builder, frames) if int8 else None
    if mask is None:
        return Blocks(number, sizes, None, row)
    real_score, masked_score = (builder.constant(np.array(value, np.float32)) for value in (0, FAR_BELOW))
    return Blocks(number, sizes, builder.op("Where", mask, real_score, masked_score), row)


def float_attention(
    builder: Builder, query: ir.Value, key: ir.Value, value: ir.Value, blocks: Blocks, shape: AttentionShape
) -> ir.Value:
    """softmax(q k^T / sqrt(head_dim)) v for q, k and v (batch, frames, heads * head_dim), by ONNX's operator."""
    heads = {"q_num_heads": shape.heads, "kv_num_heads": shape.heads}
    if blocks.sizes is None:
        return builder.op("Attention", query, key, value, blocks.mask, **heads)
    queries = builder.several("Split", blocks.number, query, blocks.sizes, axis=1)
    outputs = [builder.op("Attention", part, key, value, **heads) for part in queries]
    return builder.op("Concat", *outputs, axis=1)


def int8_attention(
    builder: Builder, query: ir.Value, key: ir.Value, value: ir.Value, blocks: Blocks, shape: AttentionShape
) -> ir.Value:
    """The same with integer products.

    Each block's queries are rounded separately: onnxruntime fuses only a scale that has a single reader.
    """
    mean = builder.op("MatMul", blocks.row, value)
    value = builder.op("Sub", value, mean)
    keys, key_scale = _signed(builder, key)
    values, value_scale = _signed(builder, value)
    keys, values = _heads(builder, keys, shape, [0, 2, 3, 1]), _heads(builder, values, shape, [0, 2, 1, 3])
    key_scale = builder.op("Mul", key_scale, builder.constant(np.array(shape.head_dim**-0.5, np.float32)))
    step = builder.constant(np.array(1 / TOP, np.float32))
    last = builder.integers(-1)
    outputs = []
    for block in builder.several("Split", blocks.number, query, blocks.sizes, axis=1):
        codes, scale, zero = builder.several("DynamicQuantizeLinear", 3, block)
        codes = _heads(builder, codes, shape, [0, 2, 1, 3])
        sums = builder.op("Cast", builder.op("MatMulInteger", codes, keys, zero), to=FLOAT)
        scores = builder.op("Mul", sums, builder.op("Mul", scale, key_scale))
        if blocks.mask is not None:
            scores = builder.op("Add", scores, blocks.mask)
        shares = builder.op("Softmax", scores, axis=-1)
        steps = builder.op("Mul", builder.op("ReduceMax", shares, last), step)
        rounded = builder.op("QuantizeLinear", shares, steps, axis=-1, block_size=WHOLE_ROW)
        sums = builder.op("Cast", builder.op("MatMulInteger", rounded, values), to=FLOAT)
        heads = builder.op("Mul", sums, builder.op("Mul", steps, value_scale))
        outputs.append(builder.op("Transpose", heads, perm=[0, 2, 1, 3]))
    whole = builder.op("Concat", *outputs, axis=1)
    whole = builder.op("Reshape", whole, builder.integers(0, 0, shape.heads * shape.head_dim))
    return builder.op("Add", whole, mean)


def _equal_shares(builder: Builder, frames: ir.Value) -> ir.Value:
    """1 / frames for every frame, (1, frames): onnxruntime's ReduceMean takes 10 to 40 times as long as the product."""
    ones = builder.op("Expand", builder.constant(np.ones((1, 1), np.float32)), frames)
    return builder.op("Div", ones, builder.op("Cast", frames, to=FLOAT))


def _signed(builder: Builder, tensor: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Signed 8-bit codes around zero and their scale: the second operand of a product runs at half speed unsigned."""
    ends = builder.op("ReduceMax", tensor, keepdims=0), builder.op("Neg", builder.op("ReduceMin", tensor, keepdims=0))
    largest = builder.op("Max", *ends, builder.constant(np.array(SMALLEST, np.float32)))
    scale = builder.op("Mul", largest, builder.constant(np.array(1 / SIGNED_TOP, np.float32)))
    return builder.op("QuantizeLinear", tensor, scale, builder.constant(np.array(0, np.int8))), scale


def _heads(builder: Builder, tensor: ir.Value, shape: AttentionShape, order: list[int]) -> ir.Value:
    """(batch, frames, heads * head_dim) cut into heads, its axes batch, frames, head, channel in another order."""
    cut = builder.op("Reshape", tensor, builder.integers(0, 0, shape.heads, shape.head_dim))
    return builder.op("Transpose", cut, perm=order)
