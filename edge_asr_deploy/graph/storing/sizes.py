"""How many bytes a matrix takes in an exported file at any width, without exporting it."""

from __future__ import annotations

import math
import re

import numpy as np
import onnx_ir as ir

from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.storing.integer import int8_matrix
from edge_asr_deploy.graph.storing.table import TiedTable
from edge_asr_deploy.graph.storing.weights import matmul_weight
from edge_asr_deploy.quantized.scales import PlainScales, Scales, TwoLevelScales
from edge_asr_deploy.quantized.weight import QuantizedWeight
from edge_asr_deploy.recipe.weights import WeightSpec


def stored_bytes(path: str, component: str, shape: tuple[int, int], spec: WeightSpec, is_int8: bool = False) -> int:
    """Bytes in the model file of a matrix (out, in): codes, scales, zero points, and the operators that undo them.

    A matrix of zeros is built by the code that writes real ones, and serialized. `path` is its module path: names take
    bytes as well. `is_int8`: the matrix of an integer product instead of a low-bit one.
    ValueError for a spec that gives no integer codes.
    """
    if not spec.is_integer:
        raise ValueError(f"{path}: {spec.bits} bits are no integer codes")
    rows, columns = shape
    groups = 1 if spec.group_size is None else math.ceil(columns / spec.group_size)
    scales: Scales = PlainScales(np.ones((rows, groups), np.float16))
    if spec.storage == "two-level":
        scales = TwoLevelScales(np.ones((rows, 1), np.float16), np.ones((rows, groups), np.uint8))
    weight = QuantizedWeight(
        name=path,
        component=component,
        method=spec.method,
        bits=spec.bits,
        group=spec.group_size,
        symmetric=spec.symmetric,
        codes=np.zeros(shape, np.uint8),
        zero_points=np.zeros((rows, groups), np.uint8),
        scales=scales,
    )
    if component == "embedding":
        builder = Builder("/tied_table")
        table = TiedTable.store(builder, weight)
        table.embed(builder, ir.Value(name="input_ids"))
        table.head(builder)
    else:
        builder = Builder(_node(path, component) + "/weight")
        if is_int8:
            int8_matrix(builder, weight)
        else:
            matmul_weight(builder, weight)
    graph = ir.Graph([], [], nodes=builder.nodes, initializers=builder.initializers, name="")
    return int(ir.serde.serialize_graph(graph).ByteSize())


def _node(path: str, component: str) -> str:
    """The name of a Linear's MatMul: the tracer's, except in branches, which `graph.rewriting.decoder` writes."""
    if component == "cross_attention":
        path = f"{path.rsplit('.', 1)[0]}.fresh.MatMul_0"
    return "/" + re.sub(r"\.(?!\d)", "/", path.removeprefix("model.encoder."))
