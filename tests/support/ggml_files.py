"""whisper.cpp's files, written from its format: of float weights, by Transformers' names."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from benchmarks.ggml import ggml_name

FLOAT32, FLOAT16 = 0, 1


def write_ggml(
    path: Path, config: Mapping[str, Any], words: Sequence[bytes], state: Mapping[str, NDArray[Any]], kind: int
) -> Path:
    """A file whose matrices have this kind; vectors and positions are float32, as whisper.cpp's converters write."""
    sizes = [config[key] for key in ("vocab_size", "max_source_positions", "d_model", "encoder_attention_heads")]
    sizes += [config[key] for key in ("encoder_layers", "max_target_positions", "d_model", "decoder_attention_heads")]
    sizes += [config["decoder_layers"], config["num_mel_bins"], kind]
    with path.open("wb") as file:
        file.write(struct.pack("<I11i", 0x67676D6C, *sizes))
        file.write(struct.pack("<2i", config["num_mel_bins"], 201) + bytes(4 * 201 * config["num_mel_bins"]))
        file.write(struct.pack("<i", len(words)))
        for word in words:
            file.write(struct.pack("<i", len(word)) + word)
        for source, values in state.items():
            name = ggml_name(source)
            if name == "proj_out.weight":
                continue
            is_column = name in ("encoder.conv1.bias", "encoder.conv2.bias")
            shape = (len(values), 1) if is_column else values.shape
            is_float32 = kind == FLOAT32 or values.ndim == 1 or name.endswith("positional_embedding")
            stored = values.astype("<f4" if is_float32 else "<f2")
            encoded = name.encode()
            file.write(struct.pack("<3i", len(shape), len(encoded), FLOAT32 if is_float32 else FLOAT16))
            file.write(struct.pack(f"<{len(shape)}i", *reversed(shape)) + encoded + stored.tobytes())
    return path
