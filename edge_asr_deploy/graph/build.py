"""A (fake-quantized) Transformers model becomes the two files of a bundle: traced, mended, its codes in place."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from edge_asr_deploy.bundle import Layer
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import family
from edge_asr_deploy.graph.attention import replace_encoder_attention, shape_of
from edge_asr_deploy.graph.builder import Builder
from edge_asr_deploy.graph.decoder import merge
from edge_asr_deploy.graph.editing import Finder, constant_of, load, tidy
from edge_asr_deploy.graph.export import DECODER, DECODER_WITH_PAST, ENCODER, trace
from edge_asr_deploy.graph.integer import Rounded, integer_matmul, round_input
from edge_asr_deploy.graph.weights import TiedTable, float_matrix, half, matmul_weight, narrow_tensor
from edge_asr_deploy.ptq.weight import Activation, QuantizedWeight
from edge_asr_deploy.recipe import Recipe

MERGED = "decoder_model_merged.onnx"
HEAD = "proj_out"
EMBEDDING = "model.decoder.embed_tokens"
# A protobuf file ends at 2 GB; what comes near gets a data file beside it.
EXTERNAL_DATA_BYTES = 1_500_000_000


def build(
    model: Any, recipe: Recipe, weights: Sequence[QuantizedWeight], folder: Path, said: Callable[[str], None]
) -> list[Layer]:
    """Write `encoder_model.onnx` and `decoder_model_merged.onnx` of `model` into `folder`; returns what is stored how.

    `model` (a Whisper or Moonshine for conditional generation) holds the values of `weights` already, as `quantize`
    leaves it. `said` hears what is being done. UserError when a traced weight is not the one that was quantized.
    """
    named = {weight.name: weight for weight in weights}
    config = model.config.to_dict()
    components = family(recipe.family).structure(model.config).components()
    with tempfile.TemporaryDirectory() as scratch:
        said("tracing the float graph with Optimum")
        trace(model, Path(scratch))
        said("writing the encoder")
        encoder = load(Path(scratch) / ENCODER)
        replace_encoder_attention(encoder.graph, shape_of(config, recipe.family, "encoder"))
        placed = _place_linears(_matmuls(encoder.graph, "model.encoder."), components, recipe, named)
        placed += _place_encoder_stem(encoder.graph, recipe)
        _save(encoder, folder / ENCODER)
        said("writing the decoder")
        decoder, projections = merge(
            load(Path(scratch) / DECODER),
            load(Path(scratch) / DECODER_WITH_PAST),
            shape_of(config, recipe.family, "decoder"),
        )
    matmuls = {**_matmuls(decoder.graph, ""), **projections}
    head = matmuls.pop(HEAD)
    placed += _place_linears(matmuls, components, recipe, named)
    placed.append(_place_table(decoder.graph, head, recipe, named))
    if recipe.family == "whisper":
        node = Finder(decoder.graph).node("/model/decoder/embed_positions/Gather")
        placed.append(_place_stem(node, 0, "model.decoder.embed_positions", recipe))
    _save(decoder, folder / MERGED)
    if missing := named.keys() - {layer.name for layer in placed}:
        raise UserError("export", sorted(missing)[0], "was quantized but is not in the traced graph; report this")
    return placed


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
    # Rounded inputs, by the graph they stand in and what they are made from: q, k and v read one.
    inputs: dict[tuple[ir.Graph | ir.Function | None, ir.Value, Activation], Rounded] = {}
    for name, node in nodes.items():
        builder = Builder(str(node.name).removesuffix("/MatMul") + "/weight")
        traced = constant_of(node.inputs[1])
        component = components[name]
        weight = named.get(name)
        if weight is not None:
            _require_equal(name, traced, weight.dequantize().T)
            if (weight.activation is not None) != recipe.activations(component).covers(name):
                raise UserError(
                    "export", name, f"its activations are not those the recipe gives {component}; report this"
                )
            if weight.activation is not None:
                read = node.inputs[0]
                assert read is not None
                key = (node.graph, read, weight.activation)
                inputs[key] = inputs.get(key) or round_input(builder, read, weight.activation)
                _replace(builder, node, integer_matmul(builder, inputs[key], weight))
                layers.append(_quantized_layer(weight, builder))
                continue
            value = matmul_weight(builder, weight)
            layers.append(_quantized_layer(weight, builder))
        else:
            bits = recipe.component(component).bits
            if bits <= 8:
                raise UserError("export", name, f"the recipe gives {component} {bits} bits but it was not quantized")
            value = float_matrix(builder, traced, bits, "weight")
            layers.append(_float_layer(name, component, bits, traced.T, builder))
        _insert(builder, node, 1, value)
    return layers


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
        stored = _quantized_layer(weight, builder)
        rows, matrix = table.embed(builder, tokens), table.head(builder)
    else:
        bits = recipe.component("embedding").bits
        whole = builder.constant(traced if bits == 32 else half(traced, EMBEDDING), "table")
        stored = _float_layer(EMBEDDING, "embedding", bits, traced, builder)
        wide = {"to": ir.DataType.FLOAT}
        rows = builder.op("Cast", builder.op("Gather", whole, tokens, axis=0), **wide)
        matrix = builder.op("Transpose", builder.op("Cast", whole, **wide), perm=[1, 0])
    gather.outputs[0].replace_all_uses_with(rows)
    builder.add_to(graph)
    head.replace_input_with(1, matrix)
    return stored


def _place_encoder_stem(graph: ir.Graph, recipe: Recipe) -> list[Layer]:
    find = Finder(graph)
    layers = []
    for name in ("conv1", "conv2", "conv3")[: 2 if recipe.family == "whisper" else 3]:
        layers.append(_place_stem(find.node(f"/{name}/Conv"), 1, f"model.encoder.{name}", recipe))
    if recipe.family == "whisper":
        layers.append(_place_stem(find.node("/Add"), 1, "model.encoder.embed_positions", recipe))
    return layers


def _place_stem(node: ir.Node, index: int, name: str, recipe: Recipe) -> Layer:
    traced, bits = constant_of(node.inputs[index]), recipe.stem.bits
    builder = Builder(str(node.name).rsplit("/", 1)[0] + "/stem")
    value = narrow_tensor(builder, traced, bits, "weight")
    _insert(builder, node, index, value)
    return _float_layer(name, "stem", bits, traced, builder)


def _insert(builder: Builder, node: ir.Node, index: int, value: ir.Value) -> None:
    """Put what was built in front of `node`, in whichever graph it stands, as its input `index`."""
    graph = _prepend(builder, node)
    old = node.inputs[index]
    node.replace_input_with(index, value)
    _forget(graph, old)


def _replace(builder: Builder, node: ir.Node, value: ir.Value) -> None:
    """Put what was built in the place of `node`, a MatMul, in whichever graph it stands; its matrix goes."""
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


def _quantized_layer(weight: QuantizedWeight, builder: Builder) -> Layer:
    return Layer(
        name=weight.name,
        component=weight.component,
        method=weight.method,
        bits=weight.bits,
        group=weight.group,
        symmetric=weight.symmetric,
        shape=list(weight.shape),
        bytes=_stored_bytes(builder),
        error=weight.error,
        activations="float" if weight.activation is None else weight.activation.kind,
        storage="plain" if weight.multipliers is None else "two-level",
    )


def _float_layer(name: str, component: str, bits: int, array: Any, builder: Builder) -> Layer:
    method = "int8 per row" if bits == 8 else f"float{bits}"
    return Layer(
        name=name, component=component, method=method, bits=bits, shape=list(array.shape), bytes=_stored_bytes(builder)
    )


def _stored_bytes(builder: Builder) -> int:
    return sum(value.const_value.nbytes for value in builder.initializers if value.const_value is not None)


def _save(model: ir.Model, path: Path) -> None:
    tidy(model)
    total = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    ir.save(model, path, external_data=f"{path.name}_data" if total > EXTERNAL_DATA_BYTES else None)
