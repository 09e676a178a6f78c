"""A whisper.cpp file (ggml, float16 or float32) to a Transformers folder, value for value.

The layout is that of whisper.cpp's `models/convert-pt-to-ggml.py`: a header, the mel filters, the bytes of every text
token in the order of their ids, and the tensors with OpenAI's names. What Transformers has beside that follows from
the sizes, as whisper.cpp itself makes it up (`whisper_model_load` in its `whisper.cpp`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.checkpoints.tiktoken_vocabulary import tokenizer_of
from edge_asr_deploy.checkpoints.whisper_files import Dimensions, never_written, read_tokens, write_whisper_files
from edge_asr_deploy.errors import UserError

MAGIC = struct.pack("<I", 0x67676D6C)
FLOATS: dict[int, np.dtype[Any]] = {0: np.dtype("<f4"), 1: np.dtype("<f2")}
# ggml's numbers of the files with integers; files say them with the version of the formats in thousands.
QUANTIZED = {2: "q4_0", 3: "q4_1", 7: "q8_0", 8: "q5_0", 9: "q5_1", 10: "q2_k", 11: "q3_k", 12: "q4_k", 14: "q6_k"}
FORMATS_VERSION = 1000
# Larger than in any Whisper, so that a broken file asks for no memory.
MOST_TOKENS, LONGEST_TOKEN, LONGEST_NAME, MOST_AXES = 100_000, 1_000, 200, 4
MODULES = {
    "attn.query": "self_attn.q_proj",
    "attn.key": "self_attn.k_proj",
    "attn.value": "self_attn.v_proj",
    "attn.out": "self_attn.out_proj",
    "attn_ln": "self_attn_layer_norm",
    "cross_attn.query": "encoder_attn.q_proj",
    "cross_attn.key": "encoder_attn.k_proj",
    "cross_attn.value": "encoder_attn.v_proj",
    "cross_attn.out": "encoder_attn.out_proj",
    "cross_attn_ln": "encoder_attn_layer_norm",
    "mlp.0": "fc1",
    "mlp.2": "fc2",
    "mlp_ln": "final_layer_norm",
}
OUTER = {
    "encoder.conv1": "encoder.conv1",
    "encoder.conv2": "encoder.conv2",
    "encoder.ln_post": "encoder.layer_norm",
    "decoder.ln": "decoder.layer_norm",
}
TABLES = {
    "encoder.positional_embedding": "encoder.embed_positions.weight",
    "decoder.positional_embedding": "decoder.embed_positions.weight",
    "decoder.token_embedding.weight": "decoder.embed_tokens.weight",
}
AGAIN = "convert or download it again"


@dataclass(frozen=True)
class Header:
    """The eleven numbers at the begin of a file, in their order."""

    vocabulary: int
    source_positions: int
    encoder_width: int
    encoder_heads: int
    encoder_layers: int
    target_positions: int
    decoder_width: int
    decoder_heads: int
    decoder_layers: int
    mels: int
    kind: int


def looks_like_ggml(path: Path) -> bool:
    """True for a file of whisper.cpp, whatever its name."""
    with path.open("rb") as file:
        return file.read(4) == MAGIC


def convert(path: Path, destination: Path) -> None:
    """Fill `destination` with a Transformers Whisper: float32 weights, configurations and the tokenizer.

    UserError for a file that is quantized, broken, or holds another model.
    """
    from safetensors.numpy import save_file

    reader = _Reader(path)
    header = reader.header()
    tokens = reader.tokens()
    state = reader.tensors()
    dimensions = _dimensions(header, state, path)
    try:
        tokenizer = tokenizer_of(tokens, header.vocabulary)
    except ValueError as error:
        raise UserError("--model", path, f"has no vocabulary of Whisper's ({error}); {AGAIN}") from None
    stored = destination / "tokenizer.json"
    tokenizer.save(str(stored))
    added = read_tokens(stored)
    always, at_the_begin = never_written(added)
    save_file(state, destination / "model.safetensors", metadata={"format": "pt"})
    settings = {"suppress_ids": always, "suppress_ids_begin": at_the_begin}
    write_whisper_files(destination, dimensions, added, settings, stored)


class _Reader:
    """Reads a file from its begin to its end."""

    def __init__(self, path: Path) -> None:
        self.path, self.at = path, len(MAGIC)
        self.data = np.memmap(path, np.uint8, "r")

    def header(self) -> Header:
        header = Header(*self.integers(11))
        kind = header.kind % FORMATS_VERSION
        if kind in QUANTIZED:
            remedy = "rounding it again loses words; give the f16 or f32 file that it was made from"
            raise UserError("--model", self.path, f"is quantized already ({QUANTIZED[kind]}); {remedy}")
        if kind not in FLOATS:
            raise UserError("--model", self.path, f"has weights of ggml's type {kind}; give an f16 or f32 file")
        rows, columns = self.integers(2)
        self.floats((rows, columns), FLOATS[0])
        return header

    def tokens(self) -> list[bytes]:
        [number] = self.integers(1)
        if not 0 <= number <= MOST_TOKENS:
            raise self.broken(f"says that it has {number} tokens")
        return [self.take(self.length(LONGEST_TOKEN)).tobytes() for _ in range(number)]

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """Every tensor in float32, by Transformers' names."""
        state: dict[str, NDArray[np.float32]] = {}
        while self.at < len(self.data):
            axes, length, kind = self.integers(3)
            if not (0 < axes <= MOST_AXES and 0 < length <= LONGEST_NAME and kind in FLOATS):
                raise self.broken(f"has no tensor at byte {self.at}")
            shape = self.integers(axes)[::-1]
            name = self.take(length).tobytes().decode("utf-8", errors="replace")
            values = self.floats(shape, FLOATS[kind]).astype(np.float32)
            # The biases of the convolutions are columns there.
            state[self.place(name)] = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
        return state

    def place(self, name: str) -> str:
        """Transformers' name of a tensor."""
        if name in TABLES:
            return f"model.{TABLES[name]}"
        module, _, kind = name.rpartition(".")
        side, _, rest = module.partition(".blocks.")
        number, _, inner = rest.partition(".")
        if module in OUTER:
            return f"model.{OUTER[module]}.{kind}"
        if inner not in MODULES:
            raise UserError("--model", self.path, f"holds {name!r}, which is no part of a Whisper; give a Whisper")
        return f"model.{side}.layers.{number}.{MODULES[inner]}.{kind}"

    def integers(self, number: int) -> tuple[int, ...]:
        return struct.unpack(f"<{number}i", self.take(4 * number).tobytes())

    def length(self, most: int) -> int:
        [length] = self.integers(1)
        if not 0 <= length <= most:
            raise self.broken(f"has a token of {length} bytes")
        return length

    def floats(self, shape: tuple[int, ...], kind: np.dtype[Any]) -> NDArray[Any]:
        if any(size <= 0 for size in shape):
            raise self.broken(f"has a tensor of shape {shape}")
        # Python's integers: a product of large sizes does not wrap around.
        number = kind.itemsize
        for size in shape:
            number *= size
        return self.take(number).view(kind).reshape(shape)

    def take(self, number: int) -> NDArray[np.uint8]:
        if self.at + number > len(self.data):
            raise self.broken("is cut short")
        self.at += number
        return np.asarray(self.data[self.at - number : self.at])

    def broken(self, reason: str) -> UserError:
        return UserError("--model", self.path, f"{reason}; {AGAIN}")


def _dimensions(header: Header, state: dict[str, NDArray[np.float32]], path: Path) -> Dimensions:
    try:
        found = Dimensions(
            width=header.encoder_width,
            mels=state["model.encoder.conv1.weight"].shape[1],
            feed_forward=state["model.encoder.layers.0.fc1.weight"].shape[0],
            vocabulary=len(state["model.decoder.embed_tokens.weight"]),
            encoder_layers=header.encoder_layers,
            decoder_layers=header.decoder_layers,
            encoder_heads=header.encoder_heads,
            decoder_heads=header.decoder_heads,
            source_positions=len(state["model.encoder.embed_positions.weight"]),
            target_positions=len(state["model.decoder.embed_positions.weight"]),
            scale_embedding=False,
        )
    except KeyError as error:
        raise UserError("--model", path, f"has no {error.args[0]}; {AGAIN}") from None
    said = (header.mels, header.vocabulary, header.source_positions, header.target_positions)
    if said != (found.mels, found.vocabulary, found.source_positions, found.target_positions):
        raise UserError("--model", path, f"its header and its tensors have other sizes; {AGAIN}")
    return found
