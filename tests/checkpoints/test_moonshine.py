"""Moonshine's own files: the tokenizer, and constants dequantized as the graph does it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from edge_asr_deploy.checkpoints.moonshine_ort import _Graph
from edge_asr_deploy.checkpoints.moonshine_tokenizer import write_tokenizer
from edge_asr_deploy.errors import UserError

PIECES = ["▁▁", "▁t", "he", "▁the", "▁h", "", *"▁thexabc", "ü" * 100, "ab", "bc"]
FIRST = 259


def tokenizer_bin(pieces: list[str] = PIECES) -> bytes:
    """The vendor's format: length (two bytes from 128 on), bytes; filled up to 32000 pieces."""
    all_pieces = [b"<unk>", b"<s>", b"</s>", *(bytes([value]) for value in range(256)), *(p.encode() for p in pieces)]
    all_pieces += [f"#{number}".encode() for number in range(len(all_pieces), 32_000)]
    return b"".join(length(len(piece)) + piece for piece in all_pieces)


def length(count: int) -> bytes:
    return bytes([count]) if count < 128 else bytes([128 + count % 128, count // 128])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "tokenizer.bin").write_bytes(tokenizer_bin())
    write_tokenizer(folder / "tokenizer.bin", 32_010, folder)
    return folder


def test_pieces_bytes_and_unused_ids_decode(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 32_010
    assert tokenizer.decode([1, FIRST + 3, FIRST + 4, 2]) == "the h"
    assert tokenizer.decode([FIRST + 3, 3 + 0xC3, 3 + 0xA9]) == "theé"
    assert tokenizer.decode([FIRST + PIECES.index("ü" * 100)]) == "ü" * 100
    assert tokenizer.id_to_token(FIRST + PIECES.index("")) == "\u2028"
    assert tokenizer.decode([32_005], skip_special_tokens=False) == "<<ST_5>>"


def test_it_encodes_by_merging_in_the_order_of_the_pieces(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("the").ids == [1, FIRST + 3]
    assert tokenizer.encode("abc").tokens == ["<s>", "▁", "ab", "c"]
    assert tokenizer.encode("xé").tokens == ["<s>", "▁", "x", "<0xC3>", "<0xA9>"]


def test_transformers_loads_it(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert tokenizer.decode([1, FIRST + 3, 2], skip_special_tokens=True) == "the"


@pytest.mark.parametrize("data", [tokenizer_bin()[:-3], tokenizer_bin()[:2000], b"", b"\x03abc"])
def test_a_broken_tokenizer_is_named(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.bin").write_bytes(data)
    with pytest.raises(UserError, match=r"tokenizer\.bin: is (cut short|no Moonshine tokenizer)"):
        write_tokenizer(tmp_path / "tokenizer.bin", 32_000, tmp_path)


def test_constants_are_dequantized_as_the_graph_does_it(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper, as_tensor = onnx.helper, onnx.numpy_helper.from_array
    codes = np.array([[1, 2, 3], [250, 251, 252]], np.uint8)
    nodes = [
        helper.make_node(
            "DynamicQuantizeMatMul", ["x", "w_quantized", "w_scale", "w_zero_point"], ["y"], domain="com.microsoft"
        ),
        helper.make_node("Cast", ["v_quantized"], ["v_cast"], to=1),
        helper.make_node("Mul", ["v_cast", "v_scale"], ["v_mul"]),
        helper.make_node("Add", ["v_mul", "v_zero_point_"], ["v_add"]),
        helper.make_node("Transpose", ["v_add"], ["v_transposed"]),
        helper.make_node("MatMul", ["y", "v_transposed"], ["z"]),
        helper.make_node("MatMul", ["z", "z"], ["out"]),
    ]
    for node, name in zip(
        nodes,
        ("/layers.0/mlp/up_proj/MatMul_quant", *"abcd", "/layers.0/self_attn/dense/MatMul", "/m/MatMul"),
        strict=True,
    ):
        node.name = name
    constants = {
        "w_quantized": codes,
        "w_scale": np.float32(0.5),
        "w_zero_point": np.uint8(128),
        "v_quantized": codes.view(np.int8),
        "v_scale": np.float32(0.25),
        "v_zero_point_": np.float32(10),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [2, 2])],
        [helper.make_tensor_value_info("out", 1, [2, 2])],
        [as_tensor(np.asarray(values), name) for name, values in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "m.onnx")
    found = dict(_Graph(tmp_path / "m.onnx").parameters("model.encoder."))
    expected = (codes.astype(np.float32) - 128) * np.float32(0.5)
    assert np.array_equal(found["model.encoder.layers.0.mlp.fc1.weight"], expected.T)
    expected = codes.view(np.int8).astype(np.float32) * np.float32(0.25) + np.float32(10)
    assert np.array_equal(found["model.encoder.layers.0.self_attn.o_proj.weight"], expected)
    assert "model.encoder.m.weight" not in found


def test_it_is_json_that_transformers_would_write(folder: Path) -> None:
    configuration = json.loads((folder / "tokenizer_config.json").read_text())
    assert configuration["tokenizer_class"] == "PreTrainedTokenizerFast"
