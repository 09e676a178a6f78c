"""A quantized model on disk: the codes, and the float parts that quantization changed. safetensors and JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from edge_asr_deploy.quantized.inputs import InputRounding
from edge_asr_deploy.quantized.weight import QuantizedWeight
from edge_asr_deploy.sealing import is_sealed

CODES, FLOATS, INDEX = "codes.safetensors", "floats.safetensors", "weights.json"
ARRAY, SCALAR, CLASS = "array", "scalar", "class"
# A stored file may name classes of these modules only.
MODULES = "edge_asr_deploy.quantized."
# Exceptions from reading a file that is cut short, changed, or of another version.
UNREADABLE = (OSError, KeyError, TypeError, ValueError, AttributeError, SafetensorError)


def snapshot(model: Any) -> dict[str, Tensor]:
    """Copies of the model's tensors by name, to compare with later."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def is_storable(model: Any, before: Mapping[str, Tensor]) -> bool:
    """False when quantization added modules to the model: stored values alone could not restore it."""
    return set(model.state_dict()) == set(before)


def save(
    folder: Path, model: Any, weights: Sequence[QuantizedWeight], before: Mapping[str, Tensor], seconds: float
) -> None:
    """Write `weights` and every tensor of `model` that is neither as `before` nor what a weight dequantizes to.

    `seconds` is how long the quantization took.
    """
    arrays: dict[str, NDArray[Any]] = {}
    index = [_flatten(weight, str(number), arrays) for number, weight in enumerate(weights)]
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / CODES)
    state = model.state_dict()
    given = {f"{weight.name}.weight": weight.dequantize() for weight in weights}
    # Tied tensors have several names and one address.
    covered = {state[name].data_ptr() for name, value in given.items() if np.array_equal(value, state[name].numpy())}
    changed = {}
    for name, tensor in state.items():
        if tensor.data_ptr() not in covered and not torch.equal(tensor, before[name]):
            covered.add(tensor.data_ptr())
            changed[name] = np.ascontiguousarray(tensor.numpy())
    save_file(changed, folder / FLOATS)
    (folder / INDEX).write_text(json.dumps({"seconds": seconds, "weights": index}, indent=1), encoding="utf-8")


@dataclass(frozen=True)
class Stored:
    """What `save` wrote. `seconds`: how long the quantization took then."""

    weights: list[QuantizedWeight]
    floats: dict[str, NDArray[Any]]
    seconds: float

    def restore(self, model: Any) -> None:
        """Give `model`, which is as it was before it was quantized, the values it had afterwards."""
        state = model.state_dict()
        values = {f"{weight.name}.weight": weight.dequantize() for weight in self.weights}
        for name, value in (values | self.floats).items():
            state[name].copy_(torch.from_numpy(value))


def read(folder: Path) -> Stored | None:
    """What is stored there; None when there is nothing, not what `save` writes, or something changed since."""
    if not is_sealed(folder):
        return None
    try:
        arrays, floats = load_file(folder / CODES), load_file(folder / FLOATS)
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        weights: list[QuantizedWeight] = [_rebuild(entry, arrays) for entry in index["weights"]]
        return Stored(weights, floats, float(index["seconds"]))
    except UNREADABLE:
        return None


def save_ranges(folder: Path, weights: Sequence[QuantizedWeight]) -> None:
    """Write how the inputs of the weights' layers are rounded, by the layers' names."""
    arrays: dict[str, NDArray[Any]] = {}
    index = {weight.name: _flatten(weight.inputs, weight.name, arrays) for weight in weights}
    save_file(arrays, folder / CODES)
    (folder / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")


def read_ranges(folder: Path) -> dict[str, InputRounding | None] | None:
    """What `save_ranges` wrote there; None when there is nothing, or something else."""
    if not is_sealed(folder):
        return None
    try:
        arrays = load_file(folder / CODES)
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return {name: _rebuild(entry, arrays) for name, entry in index.items()}
    except UNREADABLE:
        return None


def _flatten(value: Any, path: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """JSON for a dataclass of numbers, texts, arrays and other such dataclasses; the arrays go to `arrays`."""
    if isinstance(value, np.ndarray | np.generic):
        arrays[path] = np.atleast_1d(value)
        return {ARRAY if isinstance(value, np.ndarray) else SCALAR: path}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            f.name: _flatten(getattr(value, f.name), f"{path}.{f.name}", arrays) for f in dataclasses.fields(value)
        }
        return {CLASS: f"{type(value).__module__}:{type(value).__name__}", **fields}
    return value


def _rebuild(entry: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    if not isinstance(entry, dict):
        return tuple(entry) if isinstance(entry, list) else entry
    if ARRAY in entry:
        return arrays[entry[ARRAY]]
    if SCALAR in entry:
        return arrays[entry[SCALAR]][0]
    fields = {name: _rebuild(value, arrays) for name, value in entry.items() if name != CLASS}
    module, _, name = str(entry[CLASS]).partition(":")
    if not module.startswith(MODULES):
        raise ValueError(f"{entry[CLASS]} is no part of a weight")
    return getattr(import_module(module), name)(**fields)
