"""Shows what a bundle contains: its layers, its bytes, and the operators that onnxruntime runs."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx
import onnxruntime
from onnx import shape_inference
from pydantic import BaseModel, ConfigDict, Field

from edge_asr_deploy.bundle.manifest import Layer, Model, bundle_hash
from edge_asr_deploy.bundle.verification import verify
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.evaluation.result import Size
from edge_asr_deploy.harness.evaluation.size import size_of
from edge_asr_deploy.runtime.session import SLOWER_FUSIONS

# The operators in which onnxruntime's CPU provider multiplies integer matrices, with the index of the matrix input.
KERNELS = {
    "MatMulNBits": 1,
    "DynamicQuantizeMatMul": 1,
    "MatMulIntegerToFloat": 1,
    "MatMulInteger": 1,
    "QLinearMatMul": 3,
    "QGemm": 3,
}
# Operators that move numbers as they are, or widen them (a Cast from float16).
MOVING = ("Cast", "Concat", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
# From this number of elements on, a matrix that stays a DequantizeLinear costs noticeable memory and time.
LARGE = 65536


class Inspection(BaseModel):
    """The output of `edge-deploy inspect --json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    family: str
    hash: str
    model: Model
    recipe: str
    size: Size
    layers: list[Layer]
    operators: dict[str, dict[str, int]] = Field(description="by file, after onnxruntime's optimization")
    large_dequantize: dict[str, list[str]] = Field(
        description="by file: quantized matrices that nevertheless run in float"
    )


def inspect_bundle(folder: Path) -> Inspection:
    """Verify a bundle; inspect its manifest, its bytes and its optimized graphs. UserError when it is damaged."""
    manifest = verify(folder)
    graphs = {name: optimized(folder / name) for name in sorted(manifest.files) if name.endswith(".onnx")}
    large = {name: expanded(model, LARGE) for name, model in graphs.items()}
    return Inspection(
        name=manifest.name,
        family=manifest.family,
        hash=bundle_hash(manifest),
        model=manifest.model,
        recipe=str(manifest.recipe.get("name", "")),
        size=size_of(folder),
        layers=manifest.layers,
        operators={name: dict(count(model).most_common()) for name, model in graphs.items()},
        large_dequantize={name: nodes for name, nodes in large.items() if nodes},
    )


def weight_kernels(model: onnx.ModelProto) -> int:
    """How many integer kernels of an optimized graph multiply by a stored matrix, not by another activation."""
    return _weight_kernels(model.graph, frozenset())


def optimized(path: Path) -> onnx.ModelProto:
    """The graph that onnxruntime's CPU provider runs for a model file, at its default optimization level.

    UserError when the file does not load.
    """
    options = onnxruntime.SessionOptions()
    # onnxruntime warns that the file suits only this machine. That is harmless: it is read once and removed.
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        try:
            providers = ["CPUExecutionProvider"]
            onnxruntime.InferenceSession(str(path), options, providers=providers, disabled_optimizers=SLOWER_FUSIONS)
        except Exception as error:
            # onnxruntime raises a dozen types of its own without a common base class below Exception.
            raise UserError("model file", path, f"onnxruntime does not load it ({error})") from error
        # The optimized copy lacks its data file, but only the shapes of tensors are needed here.
        return onnx.load(options.optimized_model_filepath, load_external_data=False)


def count(model: onnx.ModelProto) -> Counter[str]:
    """How often each operator occurs in a graph, including its subgraphs."""
    return Counter(node.op_type for graph in _graphs(model.graph) for node in graph.node)


def in_half_precision(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that compute in float16, in a graph and its subgraphs; moving and widening numbers is no
    arithmetic."""
    half = onnx.TensorProto.FLOAT16
    found = []
    for graph in _graphs(model.graph):
        typed = (*graph.value_info, *graph.input, *graph.output)
        names = {value.name for value in typed if value.type.tensor_type.elem_type == half}
        names |= {tensor.name for tensor in graph.initializer if tensor.data_type == half}
        for node in graph.node:
            narrows = any(attribute.name == "to" and attribute.i == half for attribute in node.attribute)
            if narrows or (node.op_type not in MOVING and names & {*node.input, *node.output}):
                found.append(node.name or node.op_type)
    return found


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for inner in _inner(node):
            yield from _graphs(inner)


def _weight_kernels(graph: onnx.GraphProto, outer: frozenset[str]) -> int:
    stored = outer | {tensor.name for tensor in graph.initializer}
    number = sum(node.op_type in KERNELS and node.input[KERNELS[node.op_type]] in stored for node in graph.node)
    return number + sum(_weight_kernels(inner, stored) for node in graph.node for inner in _inner(node))


def _inner(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        yield from (inner for inner in (attribute.g, *attribute.graphs) if inner.node)


def expanded(model: onnx.ModelProto, min_elements: int) -> list[str]:
    """Names of the DequantizeLinear nodes of at least `min_elements` elements in an optimized graph.

    Each is a matrix that no low-bit kernel multiplies: it is expanded to float32 in memory and runs at float speed. A
    node of unknown size (its input has no known rank) is listed as well.
    """
    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    return list(_large_in(inferred, {}, min_elements))


def _large_in(graph: onnx.GraphProto, outer: Mapping[str, float], min_elements: int) -> Iterator[str]:
    """Walk a graph and its subgraphs. A subgraph sees the names of the graphs around it."""
    elements = {**outer, **_elements(graph)}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and elements.get(node.input[0], math.inf) >= min_elements:
            yield node.name or node.output[0]
        for inner in _inner(node):
            yield from _large_in(inner, elements, min_elements)


def _elements(graph: onnx.GraphProto) -> dict[str, float]:
    """The number of elements of every tensor of known rank. A dimension known only at run time counts as 1."""
    sizes: dict[str, float] = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            sizes[value.name] = math.prod(max(1, d.dim_value) for d in value.type.tensor_type.shape.dim)
    return sizes
