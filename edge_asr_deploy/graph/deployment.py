"""One set of weights for several targets: each distinct graph is written once, and graphs share data files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_asr_deploy.bundle.manifest import Graphs, Layer
from edge_asr_deploy.graph.build import MERGED, decoder_graph, encoder_graph, require_all
from edge_asr_deploy.graph.onnx_tools.files import SharedData, save
from edge_asr_deploy.graph.onnx_tools.trace import ENCODER, Matrix, trace
from edge_asr_deploy.progress import Progress
from edge_asr_deploy.quantized.model import QuantizedModel

Half = Callable[[Path, Sequence[Matrix], Any, QuantizedModel], tuple[Any, list[Layer]]]


@dataclass(frozen=True)
class Deployment:
    """Graphs, the targets that run them, the quantized model as it runs there, and records of the stored tensors."""

    targets: tuple[str, ...]
    graphs: Graphs
    quantized: QuantizedModel
    layers: tuple[Layer, ...]


def deploy(model: Any, quantized: Mapping[str, QuantizedModel], folder: Path, progress: Progress) -> list[Deployment]:
    """Write the graphs of `model`, as `quantized` by target, into `folder`; `progress` is told each stage.

    `model` (a Whisper or Moonshine for conditional generation) holds the values of the weights already, as `quantize`
    leaves it. The first target's graphs have Optimum's names, the others' carry the name of the first target that
    needs them. UserError where a traced matrix is not the one that was quantized.
    """
    # On the disk of the bundle, so that "disk full" names the right one; a temporary folder is often in memory.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".traced-") as scratch:
        progress("tracing the float graph with Optimum")
        matrices = trace(model, Path(scratch))

        def write(half: Half, standard: str, is_encoder: bool) -> dict[str, tuple[str, list[Layer]]]:
            """By target the file of its half of the model, and records of the tensors in it."""
            halves = {name: _half(whole, is_encoder) for name, whole in quantized.items()}
            files = _files(standard, {name: _key(one) for name, one in halves.items()})
            data = SharedData(folder / f"{standard}_data") if len(set(files.values())) > 1 else None
            written: dict[str, list[Layer]] = {}
            for name, file in files.items():
                if file not in written:
                    progress(f"writing {file}")
                    graph, written[file] = half(Path(scratch), matrices, model.config, halves[name])
                    save(graph, folder / file, data)
            return {name: (file, written[file]) for name, file in files.items()}

        encoders = write(encoder_graph, ENCODER, True)
        decoders = write(decoder_graph, MERGED, False)
    deployments: dict[Graphs, Deployment] = {}
    for name, whole in quantized.items():
        (encoder, encoder_layers), (decoder, decoder_layers) = encoders[name], decoders[name]
        graphs, layers = Graphs(encoder=encoder, decoder=decoder), (*encoder_layers, *decoder_layers)
        require_all(whole.weights, layers)
        same = deployments.get(graphs)
        targets = (*(same.targets if same else ()), name)
        deployments[graphs] = Deployment(targets, graphs, whole, layers)
    return list(deployments.values())


def _half(whole: QuantizedModel, is_encoder: bool) -> QuantizedModel:
    """The part of a model in one of its graphs; only the encoder has int8 attention."""
    weights = tuple(weight for weight in whole.weights if weight.name.startswith("model.encoder.") == is_encoder)
    return replace(whole, weights=weights, attention=whole.attention if is_encoder else None)


def _key(half: QuantizedModel) -> Hashable:
    """Everything that a graph depends on beside the weights' values."""
    return frozenset((weight.name, weight.inputs) for weight in half.weights), half.attention


def _files(standard: str, keys: Mapping[str, Hashable]) -> dict[str, str]:
    """By target the file of its graph; targets with the same key share one."""
    named: dict[Hashable, str] = {}
    for target, key in keys.items():
        named.setdefault(key, standard if not named else f"{standard.removesuffix('.onnx')}_{target}.onnx")
    return {target: named[key] for target, key in keys.items()}
