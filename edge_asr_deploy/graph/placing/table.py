"""The tied table, stored once for the embedding and the vocabulary head."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edge_asr_deploy.bundle.manifest import Layer
from edge_asr_deploy.families.structure import HEAD, TABLE
from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.onnx_tools.editing import Finder, constant_of, rename_output
from edge_asr_deploy.graph.placing.slots import require_equal
from edge_asr_deploy.graph.records import float_layer, quantized_layer
from edge_asr_deploy.graph.storing.integer import product_name, require_int8, round_input, scaled_product
from edge_asr_deploy.graph.storing.table import TiedTable
from edge_asr_deploy.graph.storing.weights import half
from edge_asr_deploy.quantized.inputs import InputRounding
from edge_asr_deploy.quantized.model import QuantizedModel

# With a shortlist the first pass over all tokens reads a wider table with this many bits: the fastest kernel.
COARSE_BITS = 4


def place_table(graph: ir.Graph, head: ir.Node, quantized: QuantizedModel) -> Layer:
    """The tied table once, for the embedding's Gather and the head's MatMul."""
    gather = Finder(graph).node("/model/decoder/embed_tokens/Gather")
    builder = Builder("/tied_table")
    tokens, traced = gather.inputs[1], constant_of(gather.inputs[0])
    assert tokens is not None
    require_equal(HEAD, constant_of(head.inputs[1]), traced.T)
    weight = quantized.by_name.get(TABLE)
    if weight is not None:
        require_equal(TABLE, traced, weight.dequantize())
        table = TiedTable.store(builder, weight)
        stored = quantized_layer(weight, builder)
        rows = table.embed(builder, tokens)
        _place_head(graph, builder, head, table, quantized.shortlist)
    else:
        bits = quantized.floats[TABLE].bits
        whole = builder.constant(traced if bits == 32 else half(traced, TABLE), "table")
        stored = float_layer(TABLE, "embedding", bits, traced, builder, products=1)
        to_float = {"to": ir.DataType.FLOAT}
        rows = builder.op("Cast", builder.op("Gather", whole, tokens, axis=0), **to_float)
        matrix = builder.op("Transpose", builder.op("Cast", whole, **to_float), perm=[1, 0])
        head.replace_input_with(1, matrix)
    gather.outputs[0].replace_all_uses_with(rows)
    builder.add_to(graph)
    return stored


def int8_logits(builder: Builder, hidden: ir.Value, inputs: InputRounding, table: TiedTable) -> ir.Value:
    """`hidden` times the table in an integer kernel, logits (batch, steps, vocabulary).

    The kernel gets one scale for all tokens, a power of two, and the tokens' own follow it: of a vector onnxruntime
    makes a copy in every call, value by value, at 23 instructions a token on ARM.
    """
    matrix, scales = table.int8_head(builder)
    first, second = (builder.constant(np.array(value, np.float32)) for value in (0.5, 2))
    product = scaled_product(builder, round_input(builder, hidden, inputs), matrix, first)
    return builder.op("Mul", product, builder.op("Mul", scales, second))


def _place_head(graph: ir.Graph, builder: Builder, head: ir.Node, table: TiedTable, shortlist: int) -> None:
    """Let the head multiply by the table of codes, then score the best tokens again where there is a shortlist."""
    weight, hidden, logits = table.weight, head.inputs[0], head.outputs[0]
    assert hidden is not None
    if weight.inputs is not None:
        require_int8(weight)
        product = int8_logits(builder, hidden, weight.inputs, table)
        rename_output(graph, logits, product)
        graph.remove(head, safe=True)
        logits = product
    else:
        # With a shortlist the table is read in the 4-bit kernel, at half the bytes of the 8-bit one.
        head.replace_input_with(1, table.head(builder, min(weight.bits, COARSE_BITS) if shortlist else None))
    if not shortlist:
        return
    refined = table.refine(builder, hidden, logits, min(shortlist, weight.shape[0]))
    refined.type, refined.shape = logits.type, logits.shape
    graph.outputs[list(graph.outputs).index(logits)] = refined
    refined.name, logits.name = logits.name, product_name(TABLE)
