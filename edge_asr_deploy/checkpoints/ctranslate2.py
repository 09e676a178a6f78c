"""A Whisper in CTranslate2's layout (faster-whisper's) to a Transformers folder, value for value.

CTranslate2 fuses the projections that share an input: rows [q; k; v] in self-attention, [k; v] in cross-attention,
with zeros for the bias that Whisper's k_proj does not have. (`WhisperSpec` and `WhisperLoader` in CTranslate2.)
"""

from __future__ import annotations

import json
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.checkpoints.ct2_binary import Variables, read_variables
from edge_asr_deploy.checkpoints.whisper_files import Dimensions, read_tokens, write_whisper_files
from edge_asr_deploy.errors import UserError

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Ct2Files:
    """The files of one model; `weights` has several paths when a `model.bin` is stored in parts."""

    weights: tuple[Path, ...]
    config: Path
    tokenizer: Path

    @classmethod
    def of_folder(cls, folder: Path) -> Ct2Files:
        """The files of a faster-whisper folder. UserError names the one that is missing."""
        for name, remedy in (
            ("config.json", "convert the model again with a current CTranslate2, or download the whole folder"),
            ("tokenizer.json", "copy it from the Whisper that the model was made from"),
        ):
            if not (folder / name).is_file():
                raise UserError("--model", folder, f"is a CTranslate2 folder without {name}; {remedy}")
        return cls((folder / "model.bin",), folder / "config.json", folder / "tokenizer.json")


def convert(files: Ct2Files, destination: Path) -> None:
    """Fill `destination` with a Transformers Whisper: float32 weights, configurations and the tokenizer.

    Half precision is widened, which is exact; int8 and int16 are multiplied out. UserError when the model is no
    Whisper or a file is broken.
    """
    from safetensors.numpy import save_file

    path = files.weights[0]
    variables = read_variables(_bytes(files.weights), path)
    if variables.spec != "WhisperSpec":
        raise UserError(
            "--model", path, f"is a CTranslate2 {variables.spec}, not a Whisper; give a Whisper or a Moonshine"
        )
    config = _read_config(files.config)
    tokens = read_tokens(files.tokenizer)
    try:
        state, dimensions = _Mapping(variables, path).run()
    except KeyError as error:
        raise UserError(
            "--model", path, f"has no variable {error}; convert the model again with a current CTranslate2"
        ) from None
    save_file(state, destination / "model.safetensors", metadata={"format": "pt"})
    write_whisper_files(destination, dimensions, tokens, config, files.tokenizer)


def grid_note(files: Ct2Files) -> str | None:
    """What to say of weights that CTranslate2 stored as integers."""
    variables = read_variables(_bytes(files.weights), files.weights[0])
    kinds = {str(values.dtype) for name, values in variables.values.items() if f"{name}_scale" in variables}
    if not kinds:
        return None
    return (
        f"The weights were stored as {' and '.join(sorted(kinds))} by CTranslate2 before this export: "
        "they lie on that grid already, and 8-bit results made from them flatter."
    )


def _bytes(parts: tuple[Path, ...]) -> bytes | memoryview:
    if len(parts) > 1:
        return b"".join(part.read_bytes() for part in parts)
    with parts[0].open("rb") as file:
        if not parts[0].stat().st_size:
            return b""
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(config, dict) and {"suppress_ids", "suppress_ids_begin"} <= config.keys():
            return config
    except (ValueError, RecursionError):
        pass
    remedy = "copy or convert the model again"
    raise UserError(
        "--model", path, f"is no configuration of a CTranslate2 Whisper (`suppress_ids` is missing); {remedy}"
    )


class _Mapping:
    """One pass over the variables; what is left over at the end shows that the model is something else."""

    def __init__(self, variables: Variables, path: Path) -> None:
        self.variables, self.path = variables, path
        self.width = int(variables["decoder/embeddings/weight"].shape[1])
        self.used: set[str] = set()
        self.state: dict[str, Floats] = {}

    def run(self) -> tuple[dict[str, Floats], Dimensions]:
        encoder_layers, decoder_layers = self.count("encoder"), self.count("decoder")
        for name in ("conv1", "conv2"):
            self.linear(f"encoder/{name}", [f"model.encoder.{name}"])
        for side, layers in (("encoder", encoder_layers), ("decoder", decoder_layers)):
            positions = self.take(f"{side}/position_encodings/encodings")
            self.state[f"model.{side}.embed_positions.weight"] = positions
            self.norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
            for index in range(layers):
                self.layer(f"{side}/layer_{index}", f"model.{side}.layers.{index}", crosses=side == "decoder")
        table = self.take("decoder/embeddings/weight")
        self.state["model.decoder.embed_tokens.weight"] = table
        if not np.array_equal(self.take("decoder/projection/weight"), table):
            raise self.foreign("its output projection is not its embedding")
        self.refuse_leftovers()
        return self.state, self.dimensions(encoder_layers, decoder_layers)

    def layer(self, source: str, target: str, crosses: bool) -> None:
        self.linear(f"{source}/self_attention/linear_0", [f"{target}.self_attn.{x}_proj" for x in "qkv"])
        self.linear(f"{source}/self_attention/linear_1", [f"{target}.self_attn.out_proj"])
        self.norm(f"{source}/self_attention/layer_norm", f"{target}.self_attn_layer_norm")
        if crosses:
            self.linear(f"{source}/attention/linear_0", [f"{target}.encoder_attn.q_proj"])
            self.linear(f"{source}/attention/linear_1", [f"{target}.encoder_attn.{x}_proj" for x in "kv"])
            self.linear(f"{source}/attention/linear_2", [f"{target}.encoder_attn.out_proj"])
            self.norm(f"{source}/attention/layer_norm", f"{target}.encoder_attn_layer_norm")
        self.linear(f"{source}/ffn/linear_0", [f"{target}.fc1"])
        self.linear(f"{source}/ffn/linear_1", [f"{target}.fc2"])
        self.norm(f"{source}/ffn/layer_norm", f"{target}.final_layer_norm")

    def linear(self, source: str, targets: list[str]) -> None:
        weight, bias = self.take(f"{source}/weight"), self.take(f"{source}/bias")
        if len(weight) != len(bias) or len(weight) % len(targets):
            raise self.foreign(f"`{source}` has shape {weight.shape}")
        pairs = zip(np.split(weight, len(targets)), np.split(bias, len(targets)), strict=True)
        for target, (rows, offsets) in zip(targets, pairs, strict=True):
            self.state[f"{target}.weight"] = np.ascontiguousarray(rows)
            if not target.endswith("k_proj"):
                self.state[f"{target}.bias"] = np.ascontiguousarray(offsets)
            elif offsets.any():
                raise self.foreign(f"the keys of `{source}` have a bias")

    def norm(self, source: str, target: str) -> None:
        self.state[f"{target}.weight"] = self.take(f"{source}/gamma")
        self.state[f"{target}.bias"] = self.take(f"{source}/beta")

    def take(self, name: str) -> Floats:
        """A variable in float32, integers divided by their scale as `ModelSpec._quantize` multiplied by it."""
        values = self.variables[name]
        self.used |= {name, f"{name}_scale"}
        if values.dtype.kind == "f":
            return values.astype(np.float32)
        scale = np.asarray(self.variables[f"{name}_scale"], np.float32)
        if scale.ndim + 1 == values.ndim:
            scale = np.expand_dims(scale, 1)
        elif scale.size != 1:
            raise self.foreign(f"`{name}` has shape {values.shape} and scales of shape {scale.shape}")
        floats: Floats = values.astype(np.float32) / scale
        return floats

    def count(self, side: str) -> int:
        parts = (name.split("/")[1] for name in self.variables if name.startswith(f"{side}/layer_"))
        return len({part for part in parts if part[len("layer_") :].isdigit()})

    def dimensions(self, encoder_layers: int, decoder_layers: int) -> Dimensions:
        conv, hidden = self.state["model.encoder.conv1.weight"], self.state["model.encoder.layers.0.fc1.weight"]
        return Dimensions(
            width=self.width,
            mels=conv.shape[1],
            feed_forward=hidden.shape[0],
            vocabulary=len(self.state["model.decoder.embed_tokens.weight"]),
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            encoder_heads=self.scalar("encoder/num_heads", self.width // 64),
            decoder_heads=self.scalar("decoder/num_heads", self.width // 64),
            source_positions=len(self.state["model.encoder.embed_positions.weight"]),
            target_positions=len(self.state["model.decoder.embed_positions.weight"]),
            scale_embedding=bool(self.scalar("decoder/scale_embeddings", 0)),
        )

    def scalar(self, name: str, default: int) -> int:
        return int(self.variables[name].item()) if name in self.variables else default

    def refuse_leftovers(self) -> None:
        aliased = {self.variables.aliases.get(name, name) for name in self.used}
        left = [n for n, v in self.variables.values.items() if n not in self.used | aliased and v.size > 1]
        if left:
            raise self.foreign(f"`{left[0]}` has no place in a Whisper")

    def foreign(self, reason: str) -> UserError:
        return UserError(
            "--model", self.path, f"does not hold Whisper's layers ({reason}); give a Whisper or a Moonshine"
        )
