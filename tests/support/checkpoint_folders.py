"""Small random models on disk, in Transformers' layout and in CTranslate2's, which is written here from its format."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tests.support import tiny

SPECIAL = {
    "<|endoftext|>": 2,
    "<|startoftranscript|>": 1,
    "<|en|>": 300,
    "<|de|>": 301,
    "<|translate|>": 302,
    "<|transcribe|>": 303,
    "<|startofprev|>": 304,
    "<|notimestamps|>": 305,
}
GENERATION = {
    "is_multilingual": True,
    "lang_to_id": {"<|en|>": 300, "<|de|>": 301},
    "task_to_id": {"transcribe": 303, "translate": 302},
    "no_timestamps_token_id": 305,
}
CONFIG = {"suppress_ids": [7, 9], "suppress_ids_begin": [2, 8], "alignment_heads": [[0, 1]], "lang_ids": [300, 301]}
TYPES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4, "bfloat16": 5}
PREPROCESSOR = {"feature_extractor_type": "WhisperFeatureExtractor", "processor_class": "WhisperProcessor"}

Variables = dict[str, NDArray[Any]]


def write_tokenizer(path: Path, special: dict[str, int] = SPECIAL) -> None:
    """A byte-level tokenizer of 320 ids with Whisper's special tokens among them."""
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(f"filler{number}" for number in range(320))]
    free = [number for number in range(320) if number not in special.values()]
    vocabulary = {**special, **dict(zip(letters, free, strict=False))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.save(str(path))


def write_transformers(folder: Path, family: str = "whisper", **options: Any) -> Any:
    """Save a random model with its tokenizer and preprocessor; returns the model."""
    model = tiny.MODELS[family]()
    if family == "whisper":
        for key, value in GENERATION.items():
            setattr(model.generation_config, key, value)
        # Otherwise Transformers makes it anew from config.json, which has no such keys.
        model.generation_config._from_model_config = False
    model.save_pretrained(folder, **options)
    write_tokenizer(folder / "tokenizer.json")
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return model


def ct2_variables(model: Any) -> Variables:
    """The variables of CTranslate2's WhisperSpec: projections that share an input are stacked, keys get zero biases."""
    state = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    width = model.config.d_model
    found: Variables = {}

    def linear(target: str, *sources: str) -> None:
        found[f"{target}/weight"] = np.concatenate([state[f"{source}.weight"] for source in sources])
        zeros = np.zeros(width, np.float32)
        found[f"{target}/bias"] = np.concatenate([state.get(f"{source}.bias", zeros) for source in sources])

    def norm(target: str, source: str) -> None:
        found[f"{target}/gamma"], found[f"{target}/beta"] = state[f"{source}.weight"], state[f"{source}.bias"]

    for side in ("encoder", "decoder"):
        own = f"model.{side}"
        found[f"{side}/num_heads"] = np.array(model.config.encoder_attention_heads, np.int16)
        found[f"{side}/position_encodings/encodings"] = state[f"{own}.embed_positions.weight"]
        norm(f"{side}/layer_norm", f"{own}.layer_norm")
        for index in range(getattr(model.config, f"{side}_layers")):
            target, source = f"{side}/layer_{index}", f"{own}.layers.{index}"
            linear(f"{target}/self_attention/linear_0", *(f"{source}.self_attn.{x}_proj" for x in "qkv"))
            linear(f"{target}/self_attention/linear_1", f"{source}.self_attn.out_proj")
            norm(f"{target}/self_attention/layer_norm", f"{source}.self_attn_layer_norm")
            if side == "decoder":
                linear(f"{target}/attention/linear_0", f"{source}.encoder_attn.q_proj")
                linear(f"{target}/attention/linear_1", *(f"{source}.encoder_attn.{x}_proj" for x in "kv"))
                linear(f"{target}/attention/linear_2", f"{source}.encoder_attn.out_proj")
                norm(f"{target}/attention/layer_norm", f"{source}.encoder_attn_layer_norm")
            linear(f"{target}/ffn/linear_0", f"{source}.fc1")
            linear(f"{target}/ffn/linear_1", f"{source}.fc2")
            norm(f"{target}/ffn/layer_norm", f"{source}.final_layer_norm")
    for name in ("conv1", "conv2"):
        found[f"encoder/{name}/weight"] = state[f"model.encoder.{name}.weight"]
        found[f"encoder/{name}/bias"] = state[f"model.encoder.{name}.bias"]
    found["decoder/embeddings/weight"] = state["model.decoder.embed_tokens.weight"]
    return found


def to_float16(variables: Variables) -> Variables:
    return {name: v.astype(np.float16) if v.dtype == np.float32 else v for name, v in variables.items()}


def to_int8(variables: Variables) -> Variables:
    """As CTranslate2's int8: every matrix times 127 / its row's largest value, rounded; the scales beside it."""
    found: Variables = {}
    for name, values in variables.items():
        if name.endswith("weight") and values.ndim == 2:
            largest = np.abs(values).max(axis=1)
            scale = 127.0 / np.where(largest == 0, 127.0, largest)
            found[name] = np.rint(values * scale[:, None]).astype(np.int8)
            found[f"{name}_scale"] = scale.astype(np.float32)
        else:
            found[name] = values
    return found


def serialize(
    variables: Variables,
    aliases: dict[str, str] | None = None,
    version: int = 6,
    spec: str = "WhisperSpec",
    bfloat16: tuple[str, ...] = (),
) -> bytes:
    """The bytes of a `model.bin`."""

    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    if aliases is None:
        aliases = {"decoder/projection/weight": "decoder/embeddings/weight"}
        if "decoder/embeddings/weight_scale" in variables:
            aliases["decoder/projection/weight_scale"] = "decoder/embeddings/weight_scale"
    pieces = [struct.pack("<I", version), string(spec), struct.pack("<II", 3, len(variables))]
    for name, values in variables.items():
        raw, kind = values.tobytes(), TYPES[str(values.dtype)]
        if name in bfloat16:
            raw, kind = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes(), TYPES["bfloat16"]
        shape = struct.pack(f"<B{values.ndim}I", values.ndim, *values.shape)
        pieces += [string(name), shape, struct.pack("<BI", kind, len(raw)), raw]
    pieces.append(struct.pack("<I", len(aliases)))
    pieces += [string(text) for pair in aliases.items() for text in pair]
    return b"".join(pieces)


def write_ct2(folder: Path, data: bytes) -> Path:
    """A faster-whisper folder around the bytes of a `model.bin`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.bin").write_bytes(data)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    write_tokenizer(folder / "tokenizer.json")
    return folder
