"""Facts about a bundle's graphs: how matrices are stored, which kernels run them, and which bytes are stored twice."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import numpy_helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from edge_asr_deploy.bundle.manifest import CARD, Layer, Manifest
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.inspection.inspect import LARGE, count, expanded, optimized, weight_kernels

# In bytes. Short biases and rotary tables may be equal by chance; weights are larger.
SMALLEST = 256


@dataclass(frozen=True)
class Duplicate:
    """The same bytes in several places. `wasted` is the number of superfluous bytes."""

    places: tuple[str, ...]
    wasted: int


@dataclass(frozen=True)
class Facts:
    """Facts about all graphs of a bundle. `operators`, `kernels` and `wanted_kernels` are by file."""

    operators: dict[str, dict[str, int]]
    kernels: dict[str, int]
    wanted_kernels: dict[str, int]
    expanded: list[str]
    duplicates: list[Duplicate]


def facts_of(folder: Path, manifest: Manifest) -> Facts:
    """Examine every graph of a verified bundle. UserError when onnxruntime cannot load a graph."""
    files = [name for name in sorted(manifest.files) if name.endswith(".onnx")]
    graphs = {name: optimized(folder / name) for name in files}
    # In a small model every matrix may be smaller than LARGE.
    smallest = min((math.prod(layer.shape) for layer in _integer(manifest.layers)), default=LARGE)
    return Facts(
        operators={name: dict(sorted(count(model).items())) for name, model in graphs.items()},
        kernels={name: weight_kernels(model) for name, model in graphs.items()},
        wanted_kernels={name: _wanted(name, manifest.layers) for name in files},
        expanded=[
            f"{name}: {node}" for name, model in graphs.items() for node in expanded(model, min(LARGE, smallest))
        ],
        duplicates=stored_twice([folder / name for name in files]),
    )


def layer_forms(layers: Sequence[Layer]) -> dict[str, str]:
    """How each matrix is stored, for example `4 bits, group 32, asymmetric`."""
    return {layer.name: _form(layer) for layer in layers}


def side_files(manifest: Manifest) -> dict[str, str]:
    """sha256 of tokenizer and configuration files, by name."""
    return {name: entry.sha256 for name, entry in manifest.files.items() if ".onnx" not in name and name != CARD}


def stored_twice(files: Sequence[Path]) -> list[Duplicate]:
    """Find tensors of equal bytes in these model files, including the branches of an If.

    Small tensors, constant ones (a bias of zeros), and tensors that share their bytes in one data file do not count.
    """
    places: dict[str, dict[str, str]] = defaultdict(dict)
    sizes: dict[str, int] = {}
    for path in files:
        try:
            model = onnx.load(path, load_external_data=False)
        except Exception as error:  # protobuf's DecodeError is another class in each of its implementations
            raise UserError("model file", path, f"is not an ONNX model ({error}); export the bundle again") from error
        for number, (name, tensor) in enumerate(tensors(model.graph)):
            # The two branches of an If may use one name for two tensors.
            where = f"{path.name}#{number}"
            if uses_external_data(tensor):
                data = ExternalDataInfo(tensor)
                where = f"{data.location}@{data.offset}"
                onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
            raw = tensor.raw_data or numpy_helper.to_array(tensor).tobytes()
            if len(raw) >= SMALLEST and not _is_constant(raw):
                key = hashlib.sha256(raw).hexdigest()
                places[key].setdefault(where, f"{path.name}: {name}")
                sizes[key] = len(raw)
    return [
        Duplicate(tuple(same_bytes.values()), sizes[key] * (len(same_bytes) - 1))
        for key, same_bytes in places.items()
        if len(same_bytes) > 1
    ]


def tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """All stored tensors of a graph with their names, those in the branches of an If too."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield node.output[0], attribute.t
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from tensors(attribute.g)


def _is_constant(raw: bytes) -> bool:
    """True when the bytes repeat one value of at most 8 bytes."""
    return raw == raw[:8] * (len(raw) // 8) + raw[: len(raw) % 8]


def _integer(layers: Sequence[Layer]) -> list[Layer]:
    """Layers stored as integer codes on a grid. Convolutions stored as int8 have none: a session widens them."""
    return [layer for layer in layers if layer.group is not None or layer.symmetric is not None]


def _wanted(file: str, layers: Sequence[Layer]) -> int:
    """How many layers of a file should run in integer kernels: integer codes, and convolutions of 8-bit inputs."""
    is_encoder = file.startswith("encoder")
    convolved = [layer for layer in layers if layer.component == "stem" and layer.activations != "float"]
    integer_layers = [*_integer(layers), *convolved]
    return sum(layer.name.startswith("model.encoder.") == is_encoder for layer in integer_layers)


def _form(layer: Layer) -> str:
    parts = [f"{layer.bits} bits"]
    if layer.group is not None:
        parts.append(f"group {layer.group}")
    if layer.symmetric is not None:
        parts.append("symmetric" if layer.symmetric else "asymmetric")
    return ", ".join(parts)
