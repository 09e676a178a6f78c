"""From a traced model to the two graphs of a bundle: attention rewritten, codes in place of float weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from edge_asr_deploy.bundle.manifest import Layer
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import family
from edge_asr_deploy.families.structure import HEAD
from edge_asr_deploy.graph.onnx_tools.editing import load
from edge_asr_deploy.graph.onnx_tools.trace import DECODER, DECODER_WITH_PAST, ENCODER, Matrix
from edge_asr_deploy.graph.placing.linears import place_linears, place_rotation
from edge_asr_deploy.graph.placing.stem import place_decoder_stem, place_encoder_stem
from edge_asr_deploy.graph.placing.table import place_table
from edge_asr_deploy.graph.rewriting.decoder import merge
from edge_asr_deploy.graph.rewriting.encoder_attention import replace_encoder_attention
from edge_asr_deploy.graph.rewriting.frames import free_length, window_entries
from edge_asr_deploy.quantized.model import QuantizedModel
from edge_asr_deploy.quantized.weight import QuantizedWeight

MERGED = "decoder_model_merged.onnx"


def encoder_graph(
    traced: Path, matrices: Sequence[Matrix], config: Any, quantized: QuantizedModel
) -> tuple[ir.Model, list[Layer]]:
    """The encoder traced into the folder `traced`, with its weights in place, and the record of each stored tensor.

    `matrices` are those that the traced files leave out (`trace`).
    """
    kind = family(quantized.family)
    encoder = load(traced / ENCODER, matrices)
    replace_encoder_attention(encoder.graph, kind.attention(config.to_dict(), "encoder"), quantized.attention)
    matmuls = _matmuls(encoder.graph, "model.encoder.")
    placed = place_rotation(matmuls, "model.encoder", quantized)
    placed += place_linears(matmuls, quantized)
    placed += place_encoder_stem(encoder.graph, kind, quantized)
    if kind.fixed_window:
        free_length(encoder.graph, config.max_source_positions, quantized.end)
        encoder.metadata_props.update(window_entries(quantized.end))
    return encoder, placed


def decoder_graph(
    traced: Path, matrices: Sequence[Matrix], config: Any, quantized: QuantizedModel
) -> tuple[ir.Model, list[Layer]]:
    """The same of the decoder, whose two traces become one graph."""
    kind = family(quantized.family)
    shape = kind.attention(config.to_dict(), "decoder")
    decoder, projections = merge(load(traced / DECODER, matrices), load(traced / DECODER_WITH_PAST, matrices), shape)
    matmuls = {**_matmuls(decoder.graph, ""), **projections}
    head = matmuls.pop(HEAD)
    placed = place_rotation(matmuls, "model.decoder", quantized)
    placed += place_linears(matmuls, quantized)
    placed.append(place_table(decoder.graph, head, quantized))
    placed += place_decoder_stem(decoder.graph, kind, quantized)
    return decoder, placed


def require_all(weights: Sequence[QuantizedWeight], placed: Sequence[Layer]) -> None:
    """UserError when a matrix was quantized but is in no graph."""
    if missing := {weight.name for weight in weights} - {layer.name for layer in placed}:
        raise UserError("export", sorted(missing)[0], "was quantized but is not in the traced graph; report this")


def _matmuls(graph: ir.Graph, prefix: str) -> dict[str, ir.Node]:
    """The Linears of a traced graph: MatMuls with an initializer behind them, by module path."""
    by_path = {}
    for node in graph:
        weight = node.inputs[1] if node.op_type == "MatMul" else None
        if weight is not None and weight.const_value is not None and len(weight.const_value.shape) == 2:
            path = str(node.name).removeprefix("/").removesuffix("/MatMul").replace("/", ".")
            by_path[prefix + path] = node
    return by_path
