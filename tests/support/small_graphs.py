"""Graphs of one layer with made-up weights: written, and run on onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.graph.storing.weights import matmul_weight
from edge_asr_deploy.quantized.scales import PlainScales
from edge_asr_deploy.quantized.weight import QuantizedWeight
from edge_asr_deploy.runtime.session import SessionSettings, open_session

FLOAT = ir.TensorType(ir.DataType.FLOAT)


def quantized(rows: int, columns: int, bits: int, group: int | None, symmetric: bool) -> QuantizedWeight:
    random = np.random.default_rng(bits)
    groups = 1 if group is None else -(-columns // group)
    zeros = random.integers(0, 1 << bits, (rows, groups))
    return QuantizedWeight(
        name="layer",
        component="decoder",
        method="rtn",
        bits=bits,
        group=group,
        symmetric=symmetric,
        codes=random.integers(0, 1 << bits, (rows, columns)).astype(np.uint8),
        scales=PlainScales(random.uniform(0.001, 0.01, (rows, groups)).astype(np.float16)),
        zero_points=np.full_like(zeros, 1 << (bits - 1), dtype=np.uint8) if symmetric else zeros.astype(np.uint8),
    )


def save(path: Path, builder: Builder, inputs: list[ir.Value], outputs: dict[str, Any]) -> Path:
    for name, (value, shape) in outputs.items():
        value.name, value.type, value.shape = name, FLOAT, ir.Shape(shape)
    graph = ir.Graph(inputs, [value for value, _ in outputs.values()], nodes=[], opset_imports={"": 23}, name="g")
    builder.add_to(graph)
    ir.save(ir.Model(graph, ir_version=11), path)
    return path


def run(path: Path, feeds: dict[str, Any]) -> list[np.ndarray]:
    # Float activations: what is compared is the weight.
    outputs: list[np.ndarray] = open_session(path, SessionSettings(accuracy_level=1)).run(None, feeds)
    return outputs


def matmul(path: Path, weight: QuantizedWeight) -> Path:
    rows, columns = weight.shape
    x = ir.Value(name="x", type=FLOAT, shape=ir.Shape(["batch", "steps", columns]))
    builder = Builder("layer")
    y = builder.op("MatMul", x, matmul_weight(builder, weight))
    return save(path, builder, [x], {"y": (y, ["batch", "steps", rows])})
