"""whisper.cpp's files, written from its format: of float weights, by Transformers' names."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from itertools import islice
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


def words(number: int) -> list[bytes]:
    """Every single byte, as all byte-level vocabularies begin, and pairs of them to fill the words up."""
    pairs = (bytes([first, second]) for first in range(255) for second in range(256))
    return [*(bytes([value]) for value in range(256)), *islice(pairs, number - 256)]


def small(size: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Configuration and weights of a small random Whisper with a whole window and a vocabulary of this size."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from tests.support.short import whisper

    config = {**whisper().config.to_dict(), "vocab_size": size, "num_mel_bins": 80, "max_source_positions": 1500}
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"), 0)
    model = WhisperForConditionalGeneration(WhisperConfig.from_dict({**config, **special}))
    return config, {name: values.numpy() for name, values in model.state_dict().items()}
