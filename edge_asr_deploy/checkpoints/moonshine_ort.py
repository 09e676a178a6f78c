"""Moonshine's `.ort` files, as its vendor ships them, to a Transformers folder.

onnxruntime itself writes the files back as ONNX. Node names keep the module paths of Transformers, and the weights
are dequantized as the graph does it: (code - zero_point) * scale where the matrix product is an integer one,
Cast(code) * scale + offset where it is not. All of them lie on an 8-bit grid per tensor.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.checkpoints.checkpoint import write_json
from edge_asr_deploy.checkpoints.moonshine_tokenizer import write_tokenizer
from edge_asr_deploy.errors import UserError

Floats = NDArray[np.float32]

ENCODER, DECODER, TOKENIZER = "encoder_model.ort", "decoder_model_merged.ort", "tokenizer.bin"
_MATRIX_PRODUCTS = ("MatMul", "MatMulIntegerToFloat", "DynamicQuantizeMatMul")
# The vendor's file of base has the module names of an older version of Transformers.
_RENAMED = (("attn.dense", "attn.o_proj"), ("mlp.up_proj", "mlp.fc1"), ("mlp.down_proj", "mlp.fc2"))


@dataclass(frozen=True)
class Size:
    """The sizes in which Moonshines differ; both have 8 heads and a vocabulary of 32768."""

    hidden: int
    layers: int
    rotary: float


SIZES = {"tiny": Size(288, 6, 0.9), "base": Size(416, 8, 0.62)}


def convert(source: Path, size: str, destination: Path) -> None:
    """Fill `destination` with a Transformers Moonshine from the folder of `.ort` files and `tokenizer.bin`.

    `size` is `tiny` or `base`. UserError when the installed onnxruntime writes back another graph than expected.
    """
    from safetensors.numpy import save_file

    config = _config(SIZES[size])
    state = _state(source, config)
    save_file(state, destination / "model.safetensors", metadata={"format": "pt"})
    write_json(destination / "config.json", config)
    write_json(destination / "generation_config.json", _generation())
    write_json(destination / "preprocessor_config.json", _preprocessor())
    write_tokenizer(source / TOKENIZER, config["vocab_size"], destination)


def _state(source: Path, config: dict[str, Any]) -> dict[str, Floats]:
    """Parameters by Transformers' names, shapes checked; the tied output projection is left out."""
    wanted = _expected_shapes(config)
    state: dict[str, Floats] = {}
    for path, prefix in ((source / ENCODER, "model.encoder."), (source / DECODER, "")):
        for name, values in _Graph(path).parameters(prefix):
            if name not in wanted:
                continue
            first = state.setdefault(name, np.ascontiguousarray(values, np.float32))
            if first.shape != wanted[name] or not np.array_equal(first, values):
                raise _unexpected(path, f"`{name}` differs")
    table, head = state.get("model.decoder.embed_tokens.weight"), state.pop("proj_out.weight", None)
    missing = wanted.keys() - state.keys() - {"proj_out.weight"}
    if missing:
        raise _unexpected(source, f"`{min(missing)}` is missing")
    if head is not None and not np.array_equal(head, table):  # type: ignore[arg-type]
        raise _unexpected(source, "the output projection is not the embedding")
    return state


def _unexpected(path: Path, reason: str) -> UserError:
    return UserError("--model", path, f"{reason} in the graph that onnxruntime writes; install onnxruntime==1.32.0")


def _expected_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    import torch
    from transformers import MoonshineConfig, MoonshineForConditionalGeneration

    with torch.device("meta"):
        model = MoonshineForConditionalGeneration(MoonshineConfig(**config))
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


class _Graph:
    """The graph of an `.ort` file and of its branches, with every constant that can be worked out from it."""

    def __init__(self, path: Path) -> None:
        from onnx import numpy_helper

        graphs = list(_with_branches(_as_onnx(path)))
        self.nodes = [node for graph in graphs for node in graph.node]
        self.constants: dict[str, NDArray[Any]] = {
            tensor.name: numpy_helper.to_array(tensor) for graph in graphs for tensor in graph.initializer
        }
        self.producers = {output: node for node in self.nodes for output in node.output}

    def parameters(self, prefix: str) -> Iterator[tuple[str, NDArray[np.generic]]]:
        """Candidates for parameters: (Transformers' name, values). A branch repeats those of the other."""
        for name, values in self.constants.items():
            yield _rename(prefix + re.sub(r"_merged_\d+$", "", name)), values
        for node in self.nodes:
            module = prefix + node.name.strip("/").rpartition("/")[0].replace("/", ".")
            if node.op_type in _MATRIX_PRODUCTS:
                weight = self.value(node.input[1])
                if weight is not None:
                    yield _rename(f"{module}.weight"), weight.T
            elif node.op_type in ("Conv", "FusedConv", "Gather"):
                weight = self.value(node.input[0 if node.op_type == "Gather" else 1])
                if weight is not None:
                    yield _rename(f"{module}.weight"), weight
            elif node.name in ("/groupnorm/Mul", "/groupnorm/Add"):
                leaf = "weight" if node.op_type == "Mul" else "bias"
                yield f"{module}.{leaf}", self.constants[node.input[1]].reshape(-1)

    def value(self, name: str) -> NDArray[Any] | None:
        """The constant behind a node's input, dequantized; None when it depends on the audio."""
        base = name.removesuffix("_quantized")
        if base != name and name in self.constants and f"{base}_zero_point" in self.constants:
            scale, zero_point = self.constants[f"{base}_scale"], self.constants[f"{base}_zero_point"]
            integer = self.constants[name].astype(np.int32) - zero_point.astype(np.int32)
            return np.asarray(integer.astype(np.float32) * scale)
        return self.fold(name)

    def fold(self, name: str) -> NDArray[Any] | None:
        """Cast, Mul, Add and Transpose of constants, worked out."""
        if name in self.constants:
            return self.constants[name]
        node = self.producers.get(name)
        if node is None or node.op_type not in ("Cast", "Mul", "Add", "Transpose"):
            return None
        inputs = [folded for each in node.input if (folded := self.fold(each)) is not None]
        if len(inputs) < len(node.input):
            return None
        match node.op_type:
            case "Cast":
                return inputs[0].astype(np.float32)
            case "Mul":
                return np.asarray(inputs[0] * inputs[1])
            case "Add":
                return np.asarray(inputs[0] + inputs[1])
        return inputs[0].T


def _rename(name: str) -> str:
    for old, new in _RENAMED:
        name = name.replace(old, new)
    return name


def _as_onnx(path: Path) -> Any:
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.optimized_model_filepath = f"{folder}/model.onnx"
        options.add_session_config_entry("session.save_model_format", "ONNX")
        # It warns that the written graph fits this machine only: here only the constants are read.
        options.log_severity_level = 3
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath).graph


def _with_branches(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _with_branches(attribute.g)


def _config(size: Size) -> dict[str, Any]:
    """`config.json` of UsefulSensors/moonshine-tiny and -base."""
    return {
        "architectures": ["MoonshineForConditionalGeneration"],
        "model_type": "moonshine",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "decoder_start_token_id": 1,
        "encoder_hidden_act": "gelu",
        "decoder_hidden_act": "silu",
        "encoder_num_hidden_layers": size.layers,
        "decoder_num_hidden_layers": size.layers,
        "encoder_num_attention_heads": 8,
        "decoder_num_attention_heads": 8,
        "encoder_num_key_value_heads": 8,
        "decoder_num_key_value_heads": 8,
        "hidden_size": size.hidden,
        "intermediate_size": 4 * size.hidden,
        "initializer_range": 0.02,
        "is_encoder_decoder": True,
        "max_position_embeddings": 194,
        "pad_head_dim_to_multiple_of": 8,
        "partial_rotary_factor": size.rotary,
        "rope_scaling": None,
        "rope_theta": 10_000.0,
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": 32_768,
    }


def _generation() -> dict[str, int]:
    return {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "decoder_start_token_id": 1, "max_length": 194}


def _preprocessor() -> dict[str, Any]:
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "processor_class": "Wav2Vec2Processor",
        "do_normalize": False,
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
        "sampling_rate": 16_000,
    }
