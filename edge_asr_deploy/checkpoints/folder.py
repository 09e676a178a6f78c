"""Checks of a Transformers folder: complete, of a supported architecture, with whole weight files."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from edge_asr_deploy.checkpoints.checkpoint import Family
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import whisper

_SAFETENSORS, _PYTORCH = "model.safetensors", "pytorch_model.bin"
_AGAIN = "copy or download it again"
# Other programs' files, where there are no weights in Transformers' layout.
OTHERS = {
    "adapter_config.json": "so it is a LoRA adapter without its model; merge it "
    "(peft: `model.merge_and_unload().save_pretrained(FOLDER)`) and give that folder",
    "*.pt": "a checkpoint of openai-whisper or of a trainer; give the Transformers folder of the same model",
    "ggml*.bin": "a file of whisper.cpp; give that file instead of its folder",
    "*.gguf": "a file of whisper.cpp or llama.cpp; give the Transformers folder of the same model",
    "*.nemo": "a model of NVIDIA NeMo; give a Whisper or a Moonshine",
    "weights.npz": "weights of MLX; give the Transformers folder of the same model",
    "tf_model.h5": "weights of TensorFlow; save the model from PyTorch (`from_tf=True`)",
    "flax_model.msgpack": "weights of Flax; save the model from PyTorch (`from_flax=True`)",
    "*.onnx": "so it is exported already; give the float checkpoint that it was made from",
}
_PREPROCESSOR, _PROCESSOR = "preprocessor_config.json", "processor_config.json"
# Whisper's log-mel as openai/whisper computes it: what the runtime computes, and no model was trained on another.
_LOG_MEL = {"sampling_rate": 16_000, "n_fft": 400, "hop_length": 160, "chunk_length": whisper.WINDOW_SECONDS}
# Whisper's tokenizer.json has 4 MB, all others are far smaller.
LARGEST_JSON = 64_000_000
_PROBES = {"whisper": "model.encoder.layers.0.fc1.weight", "moonshine": "model.encoder.layers.0.mlp.fc1.weight"}
LEVELS = 256
_ALIKE = {
    "whisper": (("encoder_attention_heads", "decoder_attention_heads"),),
    "moonshine": (
        ("encoder_num_attention_heads", "decoder_num_attention_heads"),
        ("encoder_num_hidden_layers", "decoder_num_hidden_layers"),
    ),
}


def check_folder(folder: Path) -> tuple[Family, list[Path]]:
    """The family of a Transformers folder, and its weight files.

    UserError names what is missing, broken, or of another architecture.
    """
    if other := _other_format(folder):
        raise UserError("--model", folder, other)
    config = _config(folder)
    family = _family(folder, config)
    weights = _weight_files(folder)
    for path in weights:
        _check_whole(path)
    _check_processor(folder, family)
    _check_window(folder, family, config)
    _check_halves(folder, family, config)
    return family, weights


def is_complete(folder: Path) -> bool:
    """False for a folder that lacks a file, such as a Hub snapshot of which another program fetched only a part."""
    try:
        check_folder(folder)
    except UserError:
        return False
    return True


def grid_note(family: Family, weights: list[Path]) -> str | None:
    """A note for weights that already lie on an 8-bit grid: a typical matrix has at most 256 different values."""
    if weights[0].suffix != ".safetensors":
        return None
    import numpy as np
    from safetensors import safe_open

    for path in weights:
        with safe_open(path, framework="numpy") as tensors:
            if _PROBES[family] not in tensors.keys() or tensors.get_slice(_PROBES[family]).get_dtype() == "BF16":  # noqa: SIM118
                continue
            values = tensors.get_tensor(_PROBES[family])
            if values.size > LEVELS * LEVELS and len(np.unique(values)) <= LEVELS:
                return "The weights already lie on an 8-bit grid per tensor: 8-bit results made from them flatter."
    return None


def is_transformers(folder: Path) -> bool:
    """True when the folder holds weights in one of Transformers' layouts."""
    names = (_SAFETENSORS, _PYTORCH, f"{_SAFETENSORS}.index.json", f"{_PYTORCH}.index.json")
    return any((folder / name).is_file() for name in names)


def _other_format(folder: Path) -> str | None:
    """What a folder without weights in Transformers' layout holds instead, and what to do about it."""
    if is_transformers(folder):
        return None
    for pattern, meaning in OTHERS.items():
        if found := sorted(folder.glob(pattern)):
            return f"holds {found[0].name}, {meaning}"
    return None


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(
            "--model", folder, "has no config.json, so it is no checkpoint; give the folder of a Whisper or Moonshine"
        )
    return read_json(path)


def _family(folder: Path, config: dict[str, Any]) -> Family:
    if quantized := config.get("quantization_config"):
        method = quantized.get("quant_method") if isinstance(quantized, dict) else None
        remedy = "give the float checkpoint that it was made from"
        raise UserError("--model", folder, f"was quantized before, by {method or 'an unknown method'}; {remedy}")
    kind = config.get("model_type")
    if kind == "whisper":
        return "whisper"
    if kind == "moonshine":
        return "moonshine"
    raise UserError("--model", folder, f"its model_type is {kind!r}; only whisper and moonshine can be exported")


def _weight_files(folder: Path) -> list[Path]:
    for name in (_SAFETENSORS, _PYTORCH):
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            shards = read_json(index).get("weight_map")
            if not isinstance(shards, dict) or not shards:
                raise UserError("--model", index, f"names no weight files; {_AGAIN}")
            names = sorted({str(shard) for shard in shards.values()})
            for shard in names:
                if Path(shard).name != shard:
                    raise UserError("--model", index, f"names {shard!r}, which is no file beside it; {_AGAIN}")
            paths = [folder / shard for shard in names]
            for path in paths:
                if not path.is_file():
                    raise UserError("--model", path, f"is missing, though {index.name} names it; {_AGAIN}")
            return paths
    raise UserError("--model", folder, f"has no weights ({_SAFETENSORS} or {_PYTORCH}); {_AGAIN}")


def _check_whole(path: Path) -> None:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy"):
                return
        except (SafetensorError, OSError) as error:
            raise UserError("--model", path, f"is cut short or corrupt ({error}); {_AGAIN}") from None
    # torch writes zip files, whose table of contents is at the end; older versions wrote pickles.
    with path.open("rb") as file:
        is_pickle = file.read(1) == b"\x80"
    if not is_pickle and not zipfile.is_zipfile(path):
        raise UserError("--model", path, f"is cut short or corrupt; {_AGAIN}")


def _check_processor(folder: Path, family: Family) -> None:
    has_slow = family == "whisper" and (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    if not (folder / "tokenizer.json").is_file() and not has_slow:
        raise UserError("--model", folder, "has no tokenizer.json; copy it from the model this one was trained from")
    if not (folder / _PREPROCESSOR).is_file() and preprocessor(folder) is None:
        remedy = "copy it from the model this one was trained from"
        raise UserError("--model", folder, f"has no {_PREPROCESSOR}; {remedy}")


def preprocessor(folder: Path) -> dict[str, Any] | None:
    """The feature extractor's settings; Transformers 5 writes them into `processor_config.json`."""
    if (folder / _PREPROCESSOR).is_file():
        return read_json(folder / _PREPROCESSOR)
    if not (folder / _PROCESSOR).is_file():
        return None
    settings = read_json(folder / _PROCESSOR).get("feature_extractor")
    return settings if isinstance(settings, dict) else None


def _check_window(folder: Path, family: Family, config: dict[str, Any]) -> None:
    """Whisper's window and spectrogram are what the runtime computes."""
    if family != "whisper":
        return
    settings, remedy = preprocessor(folder) or {}, "only Whisper's own can be exported"
    for key, wanted in _LOG_MEL.items():
        if (found := settings.get(key, wanted)) != wanted:
            raise UserError("--model", folder, f"its {_PREPROCESSOR} has {key} {found!r}, not {wanted}; {remedy}")
    mels, expected = settings.get("feature_size", whisper.MEL_BINS), config.get("num_mel_bins", whisper.MEL_BINS)
    if mels != expected:
        said = f"its {_PREPROCESSOR} has feature_size {mels!r}, but config.json num_mel_bins {expected!r}"
        raise UserError("--model", folder, f"{said}; copy the file from the model this one was trained from")
    positions = whisper.WINDOW_SECONDS * whisper.FRAMES_PER_SECOND
    if (found := config.get("max_source_positions", positions)) != positions:
        said = f"its config.json has max_source_positions {found!r}, not {positions}, the frames of 30 s"
        raise UserError("--model", folder, f"{said}; {remedy}")


def _check_halves(folder: Path, family: Family, config: dict[str, Any]) -> None:
    """Optimum takes the decoder's heads, and Moonshine's layers, to be those of the encoder, as in all checkpoints."""
    for encoder_key, decoder_key in _ALIKE[family]:
        ours, theirs = config.get(encoder_key), config.get(decoder_key)
        if ours != theirs:
            said = f"its config.json has {encoder_key} {ours!r}, but {decoder_key} {theirs!r}"
            raise UserError("--model", folder, f"{said}; Optimum traces only models that have as many of both")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a checkpoint. UserError when it is anything else."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise UserError(
                "--model", path, f"has more than {LARGEST_JSON // 10**6} MB, which no such file has; {_AGAIN}"
            )
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError("--model", path, f"cannot be read as JSON ({error}); {_AGAIN}") from None
    if not isinstance(document, dict):
        raise UserError("--model", path, f"is no JSON object; {_AGAIN}")
    return document
