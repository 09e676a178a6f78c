"""A Transformers Whisper to whisper.cpp's ggml file, with its block formats (run where `gguf` is installed).

The layout is that of whisper.cpp's `models/convert-h5-to-ggml.py`, the choice of matrices that of its
`examples/quantize`: all with two dimensions but the positional tables and convolution biases.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.bundle.vocabulary import byte_letters

MAGIC = 0x67676D6C
FLOAT32, FLOAT16 = 0, 1
# ggml's number of the tensor type, and of the file type; files name the version of the formats in thousands.
TYPES = {"q4_0": (2, 2), "q5_1": (7, 9), "q8_0": (8, 7)}
FORMATS_VERSION = 2
NAMES = {
    "self_attn.q_proj": "attn.query",
    "self_attn.k_proj": "attn.key",
    "self_attn.v_proj": "attn.value",
    "self_attn.out_proj": "attn.out",
    "self_attn_layer_norm": "attn_ln",
    "encoder_attn.q_proj": "cross_attn.query",
    "encoder_attn.k_proj": "cross_attn.key",
    "encoder_attn.v_proj": "cross_attn.value",
    "encoder_attn.out_proj": "cross_attn.out",
    "encoder_attn_layer_norm": "cross_attn_ln",
    "fc1": "mlp.0",
    "fc2": "mlp.2",
    "final_layer_norm": "mlp_ln",
}
OUTER = {
    "encoder.layer_norm": "encoder.ln_post",
    "decoder.layer_norm": "decoder.ln",
    "encoder.embed_positions.weight": "encoder.positional_embedding",
    "decoder.embed_positions.weight": "decoder.positional_embedding",
    "decoder.embed_tokens": "decoder.token_embedding",
}


def ggml_name(name: str) -> str:
    """whisper.cpp's name of a tensor of Transformers' Whisper."""
    name = name.removeprefix("model.")
    side, _, rest = name.partition(".layers.")
    if rest:
        number, _, inner = rest.partition(".")
        module, _, kind = inner.rpartition(".")
        return f"{side}.blocks.{number}.{NAMES[module]}.{kind}"
    for old, new in OUTER.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def byte_values() -> dict[str, int]:
    """The byte behind every character of GPT-2's vocabulary: printable ones are themselves, others start at 256."""
    return {letter: byte for byte, letter in byte_letters().items()}


def write(checkpoint: Path, bits: str, target: Path) -> None:
    """Write `target`, with matrices as `bits`: q4_0, q5_1 or q8_0."""
    import gguf
    from safetensors.numpy import load_file
    from transformers import WhisperFeatureExtractor

    config = json.loads((checkpoint / "config.json").read_text())
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
    # The control tokens behind it whisper.cpp makes up itself.
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    filters = WhisperFeatureExtractor.from_pretrained(checkpoint).mel_filters.T.astype(np.float32)
    tensor_type, file_type = TYPES[bits]
    with target.open("wb") as file:
        file.write(struct.pack("<i", MAGIC))
        file.write(struct.pack("<11i", *_shape(config), file_type + 1000 * FORMATS_VERSION))
        file.write(struct.pack("<2i", *filters.shape) + np.ascontiguousarray(filters).tobytes())
        file.write(struct.pack("<i", len(vocabulary)))
        values = byte_values()
        for token in sorted(vocabulary, key=vocabulary.__getitem__):
            text = bytes(values[character] for character in token)
            file.write(struct.pack("<i", len(text)) + text)
        for source, tensor in load_file(checkpoint / "model.safetensors").items():
            name = ggml_name(source)
            if name == "proj_out.weight":
                continue
            kind, data = FLOAT32, tensor.astype(np.float32)
            is_table = name.endswith(".positional_embedding")
            if tensor.ndim == 2 and not is_table:
                kind = tensor_type
                data = gguf.quants.quantize(data, gguf.GGMLQuantizationType(tensor_type))
            elif tensor.ndim > 2:
                kind, data = FLOAT16, tensor.astype(np.float16)
            # whisper.cpp wants the convolutions' biases as columns.
            is_column = name in ("encoder.conv1.bias", "encoder.conv2.bias")
            _write_tensor(file, name, (len(tensor), 1) if is_column else tensor.shape, kind, data)


def _shape(config: dict[str, Any]) -> tuple[int, ...]:
    encoder = (config["max_source_positions"], config["d_model"], config["encoder_attention_heads"])
    decoder = (config["max_target_positions"], config["d_model"], config["decoder_attention_heads"])
    return (
        config["vocab_size"],
        *encoder,
        config["encoder_layers"],
        *decoder,
        config["decoder_layers"],
        config["num_mel_bins"],
    )


def _write_tensor(file: Any, name: str, shape: tuple[int, ...], kind: int, data: NDArray[Any]) -> None:
    encoded = name.encode()
    file.write(struct.pack("<3i", len(shape), len(encoded), kind))
    file.write(struct.pack(f"<{len(shape)}i", *reversed(shape)) + encoded + np.ascontiguousarray(data).tobytes())
