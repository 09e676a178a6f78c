"""Convolutions and positional tables in front of the blocks."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edge_asr_deploy.bundle.manifest import Layer
from edge_asr_deploy.families.structure import Family
from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.onnx_tools.editing import Finder, constant_of
from edge_asr_deploy.graph.placing.slots import insert, replace_node, require_equal
from edge_asr_deploy.graph.records import float_layer
from edge_asr_deploy.graph.rewriting.convolution import integer_convolution
from edge_asr_deploy.graph.storing.weights import narrow_tensor
from edge_asr_deploy.quantized.inputs import InputRounding
from edge_asr_deploy.quantized.model import QuantizedModel
from edge_asr_deploy.quantized.stem import int8_rows


def place_encoder_stem(graph: ir.Graph, kind: Family, quantized: QuantizedModel) -> list[Layer]:
    """Store the encoder's convolutions and positional table as the model has them."""
    find, layers = Finder(graph), []
    for part in kind.stem:
        if not part.path.startswith("model.encoder."):
            continue
        if part.kind == "positions":
            layers.append(_place_float(find.node("/Add"), 1, part.path, quantized.stem_bits))
            continue
        node = find.node(f"/{part.path.rsplit('.', 1)[1]}/Conv")
        if part.path in quantized.convolutions:
            layers.append(_place_convolution(node, part.path, quantized.convolutions[part.path]))
        else:
            layers.append(_place_float(node, 1, part.path, quantized.stem_bits))
    return layers


def place_decoder_stem(graph: ir.Graph, kind: Family, quantized: QuantizedModel) -> list[Layer]:
    """Store the decoder's positional table, where it has one."""
    paths = [part.path for part in kind.stem if part.path.startswith("model.decoder.")]
    nodes = [Finder(graph).node(f"/{path.replace('.', '/')}/Gather") for path in paths]
    return [_place_float(node, 0, path, quantized.stem_bits) for node, path in zip(nodes, paths, strict=True)]


def _place_float(node: ir.Node, index: int, name: str, bits: int) -> Layer:
    traced = constant_of(node.inputs[index])
    builder = Builder(str(node.name).rsplit("/", 1)[0] + "/stem")
    value = narrow_tensor(builder, traced, bits, "weight")
    insert(builder, node, index, value)
    return float_layer(name, "stem", bits, traced, builder)


def _place_convolution(node: ir.Node, path: str, rounding: InputRounding) -> Layer:
    builder = Builder(str(node.name).rsplit("/", 1)[0] + "/stem")
    traced = constant_of(node.inputs[1])
    codes, scales = int8_rows(traced)
    require_equal(path, traced, codes.astype(np.float32) * scales)
    replace_node(builder, node, integer_convolution(builder, node, codes, scales, path, rounding))
    return float_layer(path, "stem", 8, traced, builder).model_copy(update={"activations": rounding.kind})
