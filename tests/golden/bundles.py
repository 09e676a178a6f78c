"""What the golden record holds of exports: hashes of every file that small random models become, by recipe.

The graphs (operators, names, shapes, types) do not depend on the machine. The numbers in them do, in the last bit: a
processor with other vector units sums in another order. So the two are hashed apart, and numbers by the kind of
processor (`machine`).
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from edge_asr_deploy.experiments.sweep.grid import expand, load_sweep
from edge_asr_deploy.families import family
from edge_asr_deploy.graph.deployment import deploy
from edge_asr_deploy.progress import silent
from edge_asr_deploy.ptq.calibration.samples import Sample
from edge_asr_deploy.ptq.forms import quantized_models
from edge_asr_deploy.quantized.inputs import InputRounding, PerRow, Static
from edge_asr_deploy.quantized.weight import QuantizedWeight
from edge_asr_deploy.recipe.document import Recipe, parse
from edge_asr_deploy.recipe.files import for_bits, load_document, shipped, stored_for
from edge_asr_deploy.runtime.targets import TARGETS
from edge_asr_deploy.stages import compute_activations, compute_weights
from tests.support import short, tiny

FAMILIES = ("whisper", "moonshine")
# Bits of `--bits`, and what is stored for all boards at once.
WIDTHS = (2, 3, 4, 5, 6, 7, 8, 32)
BOARDS = ("pi4", "pi5", "x86")


def machine() -> str:
    """The kind of processor that decides how sums of floats end in their last bit."""
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()} torch {torch.__version__.split('+')[0]}"


def shipped_recipes() -> dict[str, Recipe]:
    """Every recipe that ships, by name; `--bits` without a file of its own, and 4 bits for boards, too."""
    found = {f"{name}-w{bits}": parse(for_bits(name, bits), "golden") for name in FAMILIES for bits in WIDTHS}
    targets = [TARGETS[name] for name in BOARDS]
    found |= {f"{name}-w4-boards": parse(stored_for(for_bits(name, 4), targets), "golden") for name in FAMILIES}
    return found | {"whisper-w2-research": parse(load_document(shipped() / "research" / "whisper-w2.yaml"), "golden")}


def sweep_recipes() -> dict[str, Recipe]:
    """The recipes of the sweep `edge-asr` for the first model of each family, by cell."""
    cells = expand(load_sweep(shipped() / "sweeps" / "edge-asr.yaml"))
    wanted = ("whisper-tiny.en", "moonshine-tiny")
    return {cell.name: cell.recipe for cell in cells if cell.model in wanted and not cell.is_float}


def samples(family: str) -> list[Sample]:
    """Two clips of noise and random tokens."""
    found = []
    for seed in range(2):
        generator = np.random.default_rng(seed)
        shape = (1, 80, 3000) if family == "whisper" else (1, 16_000 + 3000 * seed)
        inputs = torch.from_numpy(generator.normal(size=shape).astype(np.float32))
        tokens = torch.from_numpy(generator.integers(3, 300, (1, 9)))
        found.append(Sample(inputs, 40 if family == "moonshine" else 400, tokens))
    return found


def quantized(recipe: Recipe, exported: bool) -> tuple[Any, list[QuantizedWeight]]:
    """A small model of the recipe's family with the rounded weights in place, and these.

    One that is `exported` has a whole window of 30 s, the others one of 1 s: methods that learn take their time.
    """
    torch.set_num_threads(1)
    model = tiny.MODELS[recipe.family]() if exported else short.model(recipe.family)
    heard = samples(recipe.family) if exported else short.samples(recipe.family, 2)
    weights = compute_weights(model, recipe, heard, silent)
    return model, compute_activations(model, recipe, weights, heard, silent)


def weights_record(weights: Sequence[QuantizedWeight]) -> str:
    """One hash of all that the weights are."""
    digest = hashlib.sha256()
    for weight in weights:
        rounding = None if weight.inputs is None else _rounding_record(weight.inputs)
        outliers = None if weight.outliers is None else weight.outliers.count
        facts = [weight.name, weight.component, weight.method, weight.bits, weight.group, weight.symmetric]
        facts += [weight.error, outliers, weight.effective_bits, rounding]
        digest.update(json.dumps(facts).encode())
        for array in (weight.codes, weight.zero_points, weight.dequantize()):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _rounding_record(rounding: InputRounding) -> list[Any]:
    match rounding:
        case Static(scale, zero_point):
            return [rounding.kind, float(scale), float(zero_point), None]
        case PerRow(zero_point, floor):
            return [rounding.kind, None, float(zero_point), float(floor)]
        case _:
            return [rounding.kind, None, None, None]


def bundle_record(recipe: Recipe) -> dict[str, Any]:
    """Of the files that an export by this recipe writes: hashes of `graphs`, and of the `numbers` in them."""
    model, weights = quantized(recipe, exported=True)
    graphs, numbers = {}, {"weights": weights_record(weights)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        components = family(recipe.family).structure(model.config).components()
        deployments = deploy(model, quantized_models(weights, recipe, components), folder, silent)
        for path in sorted(folder.iterdir()):
            numbers[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
            if path.suffix == ".onnx":
                graphs[path.name] = structure(path)
    layers = [layer.model_dump(mode="json") for made in deployments for layer in made.layers]
    numbers["layers"] = _hash(layers)
    for layer in layers:
        layer["error"] = layer["outliers"] = layer["effective_bits"] = layer["bytes"] = None
    graphs["layers"] = _hash(layers)
    graphs["targets"] = _hash([[list(made.targets), made.graphs.model_dump()] for made in deployments])
    return {"graphs": graphs, "numbers": numbers}


# Names of what is stored of a matrix. Of tiny ones it is no longer than other constants, but numbers all the same.
STORED = re.compile(r"/(codes|low|zeros|scales|scale_codes|statistics|multipliers|shifts)\d*(_\d+)?$")


def structure(path: Path) -> str:
    """Hash of a graph without the numbers of stored matrices and of its larger tensors."""
    model = onnx.load(path, load_external_data=False)
    for graph in _graphs(model.graph):
        for tensor in graph.initializer:
            if len(tensor.raw_data) > 64 or tensor.external_data or STORED.search(tensor.name):
                tensor.ClearField("raw_data")
                tensor.ClearField("external_data")
            if tensor.name.endswith(("gaps", "outliers")):  # How many there are follows from sums of floats.
                tensor.ClearField("raw_data")
                tensor.ClearField("dims")
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()[:16]


def _graphs(graph: onnx.GraphProto) -> Iterable[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g)


def _hash(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def recipes_record() -> dict[str, str]:
    """The hash of every recipe's dump, as results and stores hold it."""
    recipes = {**shipped_recipes(), **sweep_recipes()}
    return {name: _hash(recipe.model_dump(mode="json")) for name, recipe in recipes.items()}


def is_exported(name: str) -> bool:
    """True where a recipe's graphs are recorded, too: of the sweep, those whose weights are stored in their own way."""
    _, method, setting, scope = (name.split("/") + [""] * 3)[:4]
    stored_apart = method in ("rtn", "quik", "spqr") and setting in ("w4a16", "w4a8") and scope == "blocks"
    return not method or stored_apart


def is_rounded(name: str) -> bool:
    """True where only the rounded weights of a cell are recorded. Methods that learn take seconds: one setting each."""
    learns = any(f"/{method}/" in name for method in ("omniquant", "tesseraq"))
    return not is_exported(name) and (not learns or name.split("/")[2] == "w4a16")
