"""A larger Whisper that says what a smaller one says: `python -m tools.widen MODEL FOLDER --width 1024 --layers 24`.

Exports of large checkpoints can so be tested and measured where only small ones are at hand. Every channel stands
`factor` times, and what reads channels has its weights divided by that factor, so that each sum is what it was; norms
keep their means and variances. Heads stand so often, too, each as wide as before. Layers behind the model's own repeat
these in turn, but what they add to the residual stream is zero. The head is tied to the embedding and can not be
divided, so the decoder's last norm is: its outputs are as much smaller as the head's sums are longer.

Tensors are read and written one at a time, so that a model of gigabytes takes the memory of its largest matrix.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from edge_asr_deploy.bundle.side_files import SIDE_FILES
from edge_asr_deploy.checkpoints.checkpoint import write_json
from edge_asr_deploy.checkpoints.folder import read_json
from edge_asr_deploy.checkpoints.resolution import resolve
from edge_asr_deploy.errors import UserError

WEIGHTS = "model.safetensors"
HALVES = ("encoder", "decoder")
LAYER = re.compile(r"model\.(encoder|decoder)\.layers\.(\d+)\.(.+)")
# What a layer adds to the residual stream.
CLOSING = ("out_proj.weight", "out_proj.bias", "fc2.weight", "fc2.bias")
# Its outputs are what the tied head reads.
LAST_NORM = "model.decoder.layer_norm."
# Tables whose rows are tokens or positions: only their columns are channels.
TABLES = ("embed_tokens.weight", "embed_positions.weight")
FIRST = "model.encoder.conv1.weight"
# Of the first tensor in the file, in bytes; the header is filled up with blanks.
ALIGNMENT = 64
DTYPES = {"float32": "F32", "float16": "F16"}


def widen(source: Path, folder: Path, width: int, layers: int) -> None:
    """Write the Whisper in the Transformers folder `source` with so many channels, and layers in each half.

    UserError where its own channels do not divide `width`, where it has more layers, or where it is no Whisper in one
    safetensors file.
    """
    config = read_json(source / "config.json")
    if config.get("model_type") != "whisper" or not (source / WEIGHTS).is_file():
        raise UserError("MODEL", source, f"is no Whisper in one {WEIGHTS}; take another checkpoint")
    if width % config["d_model"] or width < config["d_model"]:
        raise UserError("--width", width, f"must be a multiple of the model's {config['d_model']} channels")
    for half in HALVES:
        if layers < config[f"{half}_layers"]:
            raise UserError("--layers", layers, f"its {half} has {config[f'{half}_layers']} of its own")
    factor = width // config["d_model"]
    if folder.exists():
        raise UserError("FOLDER", folder, "exists already; choose another")
    folder.mkdir(parents=True)
    for name in SIDE_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    write_json(folder / "config.json", _larger(config, factor, layers))
    with safe_open(source / WEIGHTS, framework="numpy") as tensors:
        _write(folder / WEIGHTS, tensors, list(_names(tensors.keys(), config, layers)), factor)


def widened(name: str, tensor: NDArray[Any], factor: int) -> NDArray[Any]:
    """A tensor of the wide model, from that of the narrow one: vectors (out,), tables (rows, channels), matrices (out,
    in) and convolutions (out, in, kernel)."""
    times = repetitions(name, tensor.ndim, factor)
    reads_channels = tensor.ndim > 1 and times[1] > 1 and not name.endswith(TABLES)
    divided = tensor / tensor.dtype.type(factor) if reads_channels or name.startswith(LAST_NORM) else tensor
    return np.tile(divided, times)


def repetitions(name: str, axes: int, factor: int) -> tuple[int, ...]:
    """How often a tensor stands along each of its axes."""
    if name.endswith(TABLES):
        return (1, factor)
    # The first convolution reads the spectrogram, which stays as it is.
    inputs = 1 if name == FIRST else factor
    return (factor, inputs, 1)[:axes]


def _larger(config: dict[str, Any], factor: int, layers: int) -> dict[str, Any]:
    result = {**config, "d_model": config["d_model"] * factor, "num_hidden_layers": layers}
    for half in HALVES:
        result[f"{half}_layers"] = layers
        result[f"{half}_attention_heads"] *= factor
        result[f"{half}_ffn_dim"] *= factor
    return result


def _names(own: list[str], config: dict[str, Any], layers: int) -> Iterator[tuple[str, str, bool]]:
    """Of every tensor: its name, that of the tensor it is made from, and whether it is zero instead."""
    for name in own:
        match = LAYER.fullmatch(name)
        if match is None:
            yield name, name, False
            continue
        half, number, rest = match[1], int(match[2]), match[3]
        there = config[f"{half}_layers"]
        for layer in range(number, layers, there):
            yield f"model.{half}.layers.{layer}.{rest}", name, layer >= there and rest.endswith(CLOSING)


def _write(path: Path, tensors: Any, names: list[tuple[str, str, bool]], factor: int) -> None:
    """Write a safetensors file: the length of its header, the header, the tensors in its order."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, source, _ in names:
        tensor = tensors.get_tensor(source)
        if str(tensor.dtype) not in DTYPES:
            raise UserError("MODEL", source, f"is stored as {tensor.dtype}; take a checkpoint of floats")
        shape = [n * m for n, m in zip(tensor.shape, repetitions(source, tensor.ndim, factor), strict=True)]
        end = position + math.prod(shape) * tensor.itemsize
        header[name] = {"dtype": DTYPES[str(tensor.dtype)], "shape": shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, source, is_zero in names:
            tensor = widened(source, tensors.get_tensor(source), factor)
            file.write((np.zeros_like(tensor) if is_zero else tensor).tobytes())


def main() -> None:
    """Parse the command line and write the checkpoint; exit code 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", metavar="MODEL", help="as --model of edge-deploy export: a short name or a folder")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="the new checkpoint's folder")
    parser.add_argument("--width", type=int, required=True, help="channels: a multiple of the model's")
    parser.add_argument("--layers", type=int, required=True, help="layers of the encoder, and as many of the decoder")
    asked = parser.parse_args()
    try:
        widen(resolve(asked.model).folder, asked.folder, asked.width, asked.layers)
    except UserError as error:
        print(f"widen: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
