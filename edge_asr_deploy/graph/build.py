"""A (fake-quantized) Transformers model becomes the two files of a bundle: traced, mended, its codes in place."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from edge_asr_deploy.bundle.manifest import Layer
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import family
from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.onnx_tools.editing import Finder, constant_of, load, rename_output
from edge_asr_deploy.graph.onnx_tools.files import save
from edge_asr_deploy.graph.onnx_tools.trace import DECODER, DECODER_WITH_PAST, ENCODER, trace
from edge_asr_deploy.graph.records import float_layer, quantized_layer
from edge_asr_deploy.graph.rewriting.attention import shape_of
from edge_asr_deploy.graph.rewriting.convolution import integer_convolution
from edge_asr_deploy.graph.rewriting.decoder import merge
from edge_asr_deploy.graph.rewriting.encoder_attention import replace_encoder_attention
from edge_asr_deploy.graph.rewriting.frames import free_length
from edge_asr_deploy.graph.storing.integer import (
    Rounded,
    integer_matmul,
    product_name,
    require_int8,
    round_input,
    scaled_product,
)
from edge_asr_deploy.graph.storing.outliers import float_columns, gather
from edge_asr_deploy.graph.storing.table import TiedTable
from edge_asr_deploy.graph.storing.weights import float_matrix, half, matmul_weight, narrow_tensor
from edge_asr_deploy.proof.fake_int8 import BLOCKS
from edge_asr_deploy.ptq.stem import convolutions, float_bits, int8_rows, rounding
from edge_asr_deploy.quantized.outliers import FloatColumns
from edge_asr_deploy.quantized.weight import Activation, QuantizedWeight
from edge_asr_deploy.recipe.document import Recipe

MERGED = "decoder_model_merged.onnx"
HEAD = "proj_out"
EMBEDDING = "model.decoder.embed_tokens"
# The vocabulary head's fastest kernel: wider tables are first read with so many bits where a shortlist is wanted.
COARSE_BITS = 4


def build(
    model: Any, recipe: Recipe, weights: Sequence[QuantizedWeight], folder: Path, said: Callable[[str], None]
) -> list[Layer]:
    """Write `encoder_model.onnx` and `decoder_model_merged.onnx` of `model` into `folder`; returns what is stored how.

    `model` (a Whisper or Moonshine for conditional generation) holds the values of `weights` already, as `quantize`
    leaves it. `said` hears what is being done. UserError when a traced weight is not the one that was quantized.
    """
    with tempfile.TemporaryDirectory() as scratch:
        said("tracing the float graph with Optimum")
        trace(model, Path(scratch))
        said("writing the encoder")
        encoder, placed = encoder_graph(Path(scratch), model.config, recipe, weights)
        save(encoder, folder / ENCODER)
        said("writing the decoder")
        decoder, more = decoder_graph(Path(scratch), model.config, recipe, weights)
        save(decoder, folder / MERGED)
    placed += more
    require_all(weights, placed)
    return placed


def encoder_graph(
    traced: Path, config: Any, recipe: Recipe, weights: Sequence[QuantizedWeight]
) -> tuple[ir.Model, list[Layer]]:
    """The encoder traced into the folder `traced`, with its `weights` in place, and what is stored how."""
    components = family(recipe.family).structure(config).components()
    encoder = load(traced / ENCODER)
    shape = shape_of(config.to_dict(), recipe.family, "encoder")
    replace_encoder_attention(encoder.graph, shape, recipe.encoder.attention, BLOCKS[recipe.family])
    matmuls = _matmuls(encoder.graph, "model.encoder.")
    placed = _place_rotation(matmuls, "model.encoder", recipe)
    placed += _place_linears(matmuls, components, recipe, {weight.name: weight for weight in weights})
    placed += _place_encoder_stem(encoder.graph, recipe)
    if recipe.family == "whisper":
        free_length(encoder.graph, config.max_source_positions)
    return encoder, placed


def decoder_graph(
    traced: Path, config: Any, recipe: Recipe, weights: Sequence[QuantizedWeight]
) -> tuple[ir.Model, list[Layer]]:
    """The same of the decoder, whose two traces become one graph."""
    components = family(recipe.family).structure(config).components()
    shape = shape_of(config.to_dict(), recipe.family, "decoder")
    decoder, projections = merge(load(traced / DECODER), load(traced / DECODER_WITH_PAST), shape)
    matmuls = {**_matmuls(decoder.graph, ""), **projections}
    head = matmuls.pop(HEAD)
    named = {weight.name: weight for weight in weights}
    placed = _place_rotation(matmuls, "model.decoder", recipe)
    placed += _place_linears(matmuls, components, recipe, named)
    placed.append(_place_table(decoder.graph, head, recipe, named))
    if recipe.family == "whisper":
        node = Finder(decoder.graph).node("/model/decoder/embed_positions/Gather")
        placed.append(_place_stem(node, 0, "model.decoder.embed_positions", recipe))
    return decoder, placed


def require_all(weights: Sequence[QuantizedWeight], placed: Sequence[Layer]) -> None:
    """UserError when a matrix was quantized but is in no graph."""
    if missing := {weight.name for weight in weights} - {layer.name for layer in placed}:
        raise UserError("export", sorted(missing)[0], "was quantized but is not in the traced graph; report this")


def _matmuls(graph: ir.Graph, prefix: str) -> dict[str, ir.Node]:
    """The Linears of a traced graph: MatMuls with an initializer behind them, by module path."""
    found = {}
    for node in graph:
        weight = node.inputs[1] if node.op_type == "MatMul" else None
        if weight is not None and weight.const_value is not None and len(weight.const_value.shape) == 2:
            path = str(node.name).removeprefix("/").removesuffix("/MatMul").replace("/", ".")
            found[prefix + path] = node
    return found


def _place_linears(
    nodes: Mapping[str, ir.Node], components: Mapping[str, str], recipe: Recipe, named: Mapping[str, QuantizedWeight]
) -> list[Layer]:
    layers = []
    gathered: dict[tuple[object, ...], ir.Value] = {}
    # Rounded inputs, by the graph they stand in and what they are made from: q, k and v read one.
    inputs: dict[tuple[ir.Graph | ir.Function | None, ir.Value, Activation, bytes | None], Rounded] = {}
    for name, node in nodes.items():
        builder = Builder(str(node.name).removesuffix("/MatMul") + "/weight")
        traced = constant_of(node.inputs[1])
        component = components[name]
        weight = named.get(name)
        if weight is not None:
            _require_equal(name, traced, weight.dequantize().T)
            if weight.activation is not None:
                read = node.inputs[0]
                assert read is not None
                others = None
                if weight.columns is not None:
                    others = np.ones(weight.shape[1], np.float32)
                    others[weight.columns.index] = 0
                key = (node.graph, read, weight.activation, None if others is None else others.tobytes())
                inputs[key] = inputs.get(key) or round_input(builder, read, weight.activation, others)
                if weight.columns is not None:
                    _add_float_columns(builder, node, weight.columns, gathered)
                _replace(builder, node, integer_matmul(builder, inputs[key], weight))
                layers.append(quantized_layer(weight, builder))
                continue
            value = matmul_weight(builder, weight)
            if weight.columns is not None:
                _add_float_columns(builder, node, weight.columns, gathered)
            layers.append(quantized_layer(weight, builder))
        else:
            bits = recipe.weights(name, component).bits
            if bits <= 8:
                raise UserError("export", name, f"the recipe gives it {bits} bits but it was not quantized")
            value = float_matrix(builder, traced, bits, "weight")
            layers.append(float_layer(name, component, bits, traced.T, builder, products=1))
        _insert(builder, node, 1, value)
    return layers


def _add_float_columns(
    builder: Builder, node: ir.Node, columns: FloatColumns, gathered: dict[tuple[object, ...], ir.Value]
) -> None:
    """Add the kept channels' part to a Linear's product; layers that share an input share what is gathered of it."""
    graph, inputs, product = node.graph, node.inputs[0], node.outputs[0]
    assert isinstance(graph, ir.Graph) and inputs is not None
    key = (id(graph), id(inputs), columns.index.tobytes())
    if key not in gathered:
        gathered[key] = gather(builder, inputs, columns.index)
    readers = list(product.uses())
    behind = Builder(f"{builder.prefix}/kept")
    total = behind.op("Add", product, float_columns(builder, gathered[key], columns))
    for reader, index in readers:
        reader.replace_input_with(index, total)
    graph.insert_after(node, behind.nodes)


def _place_rotation(nodes: dict[str, ir.Node], half_path: str, recipe: Recipe) -> list[Layer]:
    """Take the products with a rotation of the residual stream out of `nodes` and store their matrix, once.

    The decoder's second one undoes its first: it multiplies with the transpose.
    """
    name, back = f"{half_path}.rotation", f"{half_path}.rotation_1"
    if name not in nodes:
        return []
    node, bits = nodes.pop(name), float_bits(recipe)
    builder, traced = Builder(str(node.name).removesuffix("/MatMul") + "/weight"), constant_of(node.inputs[1])
    value = float_matrix(builder, traced, bits, "weight")
    layer = float_layer(name, "rotation", bits, traced, builder, products=2 if back in nodes else 1)
    _insert(builder, node, 1, value)
    if back in nodes:
        node = nodes.pop(back)
        _require_equal(back, constant_of(node.inputs[1]), traced.T)
        builder = Builder(str(node.name).removesuffix("/MatMul") + "/weight")
        _insert(builder, node, 1, builder.op("Transpose", value, perm=[1, 0]))
    return [layer]


def _place_table(graph: ir.Graph, head: ir.Node, recipe: Recipe, named: Mapping[str, QuantizedWeight]) -> Layer:
    """The tied table once, for the embedding's Gather and the head's MatMul."""
    gather = Finder(graph).node("/model/decoder/embed_tokens/Gather")
    builder = Builder("/tied_table")
    tokens, traced = gather.inputs[1], constant_of(gather.inputs[0])
    assert tokens is not None
    _require_equal(HEAD, constant_of(head.inputs[1]), traced.T)
    weight = named.get(EMBEDDING)
    if weight is not None:
        _require_equal(EMBEDDING, traced, weight.dequantize())
        table = TiedTable.store(builder, weight)
        stored = quantized_layer(weight, builder)
        rows = table.embed(builder, tokens)
        _place_head(graph, builder, head, table, recipe.embedding.shortlist)
    else:
        bits = recipe.weights(EMBEDDING, "embedding").bits
        whole = builder.constant(traced if bits == 32 else half(traced, EMBEDDING), "table")
        stored = float_layer(EMBEDDING, "embedding", bits, traced, builder, products=1)
        wide = {"to": ir.DataType.FLOAT}
        rows = builder.op("Cast", builder.op("Gather", whole, tokens, axis=0), **wide)
        matrix = builder.op("Transpose", builder.op("Cast", whole, **wide), perm=[1, 0])
        head.replace_input_with(1, matrix)
    gather.outputs[0].replace_all_uses_with(rows)
    builder.add_to(graph)
    return stored


def _place_head(graph: ir.Graph, builder: Builder, head: ir.Node, table: TiedTable, shortlist: int) -> None:
    """Let the head multiply by the table of codes in the form of its weight, then look again at the best tokens."""
    weight, hidden, logits = table.weight, head.inputs[0], head.outputs[0]
    assert hidden is not None
    if weight.activation is not None:
        require_int8(weight)
        product = scaled_product(builder, round_input(builder, hidden, weight.activation), *table.int8_head(builder))
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
    refined.name, logits.name = logits.name, product_name(EMBEDDING)


def _place_encoder_stem(graph: ir.Graph, recipe: Recipe) -> list[Layer]:
    find, rounded = Finder(graph), rounding(recipe)
    layers = []
    for path in convolutions(recipe.family):
        node = find.node(f"/{path.rsplit('.', 1)[1]}/Conv")
        if path in rounded:
            layers.append(_place_convolution(node, path, rounded[path]))
        else:
            layers.append(_place_stem(node, 1, path, recipe))
    if recipe.family == "whisper":
        layers.append(_place_stem(find.node("/Add"), 1, "model.encoder.embed_positions", recipe))
    return layers


def _place_stem(node: ir.Node, index: int, name: str, recipe: Recipe) -> Layer:
    traced, bits = constant_of(node.inputs[index]), recipe.stem.bits
    builder = Builder(str(node.name).rsplit("/", 1)[0] + "/stem")
    value = narrow_tensor(builder, traced, bits, "weight")
    _insert(builder, node, index, value)
    return float_layer(name, "stem", bits, traced, builder)


def _place_convolution(node: ir.Node, path: str, activation: Activation) -> Layer:
    builder = Builder(str(node.name).rsplit("/", 1)[0] + "/stem")
    traced = constant_of(node.inputs[1])
    codes, scales = int8_rows(traced)
    _require_equal(path, traced, codes.astype(np.float32) * scales)
    _replace(builder, node, integer_convolution(builder, node, codes, scales, path, activation))
    return float_layer(path, "stem", 8, traced, builder).model_copy(update={"activations": activation.kind})


def _insert(builder: Builder, node: ir.Node, index: int, value: ir.Value) -> None:
    """Put what was built in front of `node`, in whichever graph it stands, as its input `index`."""
    graph = _prepend(builder, node)
    old = node.inputs[index]
    node.replace_input_with(index, value)
    _forget(graph, old)


def _replace(builder: Builder, node: ir.Node, value: ir.Value) -> None:
    """Put what was built in the place of `node`, a MatMul or Conv, in whichever graph it stands; its matrix goes."""
    graph = _prepend(builder, node)
    old = node.inputs[1]
    node.outputs[0].replace_all_uses_with(value)
    graph.remove(node, safe=True)
    _forget(graph, old)


def _prepend(builder: Builder, node: ir.Node) -> ir.Graph:
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    for initializer in builder.initializers:
        graph.register_initializer(initializer)
    graph.insert_before(node, builder.nodes)
    return graph


def _forget(graph: ir.Graph, old: ir.Value | None) -> None:
    if old is not None and old.name is not None and not old.uses() and old.name in graph.initializers:
        del graph.initializers[old.name]


def _require_equal(name: str, traced: Any, expected: Any) -> None:
    if traced.shape != expected.shape or not np.array_equal(traced, expected):
        raise UserError("export", name, "the traced graph holds another weight than was quantized; report this")
