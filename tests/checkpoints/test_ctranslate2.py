"""A Whisper in CTranslate2's layout becomes the Transformers model it was made from."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_asr_deploy.checkpoints import resolve
from edge_asr_deploy.errors import UserError
from tests.support import tiny
from tests.support.checkpoint_folders import CONFIG, Variables, ct2_variables, serialize, to_float16, to_int8, write_ct2

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny.whisper()


@pytest.fixture(scope="module")
def variables(model: Any) -> Variables:
    return ct2_variables(model)


def load(folder: Path) -> Any:
    from transformers import AutoModelForSpeechSeq2Seq

    return AutoModelForSpeechSeq2Seq.from_pretrained(folder).eval()


def test_float32_comes_back_bit_for_bit_and_computes_the_same(model: Any, variables: Variables, tmp_path: Path) -> None:
    checkpoint = resolve(str(write_ct2(tmp_path / "faster-whisper-nano", serialize(variables))))
    assert (checkpoint.name, checkpoint.family, checkpoint.grid_note) == ("faster-whisper-nano", "whisper", None)
    again = load(checkpoint.folder)
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    mel, ids = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(0)), torch.tensor([[1, 5, 6]])
    with torch.no_grad():
        assert torch.equal(again(mel, decoder_input_ids=ids).logits, model(mel, decoder_input_ids=ids).logits)


def test_float16_and_bfloat16_are_widened_exactly(model: Any, variables: Variables, tmp_path: Path) -> None:
    table = "decoder/embeddings/weight"
    half = to_float16(variables) | {table: variables[table]}
    state = load(resolve(str(write_ct2(tmp_path / "w", serialize(half, bfloat16=(table,))))).folder).state_dict()
    fc1, tied = "model.encoder.layers.0.fc1.weight", "model.decoder.embed_tokens.weight"
    assert torch.equal(state[fc1], model.state_dict()[fc1].half().float())
    # bfloat16 keeps the upper 16 bits; the test's writer cuts the rest off.
    assert np.array_equal(state[tied].numpy().view(np.uint32), variables[table].view(np.uint32) & 0xFFFF0000)


def test_int8_is_multiplied_out_and_said(model: Any, variables: Variables, tmp_path: Path) -> None:
    checkpoint = resolve(str(write_ct2(tmp_path / "w", serialize(to_int8(variables)))))
    assert checkpoint.grid_note and "int8" in checkpoint.grid_note
    state = load(checkpoint.folder).state_dict()
    for name, tensor in model.state_dict().items():
        step = tensor.abs().amax(dim=-1, keepdim=True) / 127
        assert ((state[name] - tensor).abs() <= 0.5001 * step + 1e-6).all(), name


def test_equal_variables_that_are_stored_once_are_found(model: Any, variables: Variables, tmp_path: Path) -> None:
    alias = {
        "decoder/projection/weight": "decoder/embeddings/weight",
        "decoder/layer_norm/beta": "encoder/layer_norm/beta",
    }
    fewer = {name: values for name, values in variables.items() if name != "decoder/layer_norm/beta"}
    state = load(resolve(str(write_ct2(tmp_path / "w", serialize(fewer, alias)))).folder).state_dict()
    assert torch.equal(state["model.decoder.layer_norm.bias"], model.state_dict()["model.encoder.layer_norm.bias"])


def test_it_generates_under_the_rules_of_the_source(
    variables: Variables, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import AutoProcessor

    folder = resolve(str(write_ct2(tmp_path / "w", serialize(variables)))).folder
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation["suppress_tokens"] == CONFIG["suppress_ids"]
    assert generation["begin_suppress_tokens"] == CONFIG["suppress_ids_begin"]
    assert (generation["max_length"], generation["is_multilingual"], generation["no_timestamps_token_id"]) == (
        48,
        False,
        305,
    )
    assert "lang_to_id" not in generation
    processor, whisper = AutoProcessor.from_pretrained(folder), load(folder)
    inputs = processor(np.zeros(16_000, np.float32), sampling_rate=16_000, return_tensors="pt")
    logging.getLogger("transformers").propagate = True
    with torch.no_grad(), caplog.at_level(logging.WARNING, "transformers"):
        tokens = whisper.generate(
            **inputs, max_new_tokens=8, return_dict_in_generate=True, force_unique_generate_call=True
        )
    assert tokens["sequences"][0, :2].tolist() == [1, 305]
    assert not {7, 9} & set(tokens["sequences"][0, 2:].tolist())
    assert "forced_decoder_ids" not in caplog.text


def test_a_large_vocabulary_is_multilingual(tmp_path: Path) -> None:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(vocab_size=51_865, d_model=4, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1)
    config.decoder_attention_heads, config.encoder_ffn_dim, config.decoder_ffn_dim = 1, 4, 4
    config.pad_token_id = 1
    model = WhisperForConditionalGeneration(config)
    folder = resolve(str(write_ct2(tmp_path / "w", serialize(ct2_variables(model))))).folder
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation["is_multilingual"] is True
    assert generation["lang_to_id"] == {"<|en|>": 300, "<|de|>": 301}
    assert generation["task_to_id"] == {"transcribe": 303, "translate": 302}
    # Without `forced_decoder_ids`, this keeps the task token in the prompt when the language is detected.
    assert generation["task"] == "transcribe"


def foreign_variable(variables: Variables) -> bytes:
    return serialize(variables | {"decoder/layer_0/adapter/weight": np.ones((4, 4), np.float32)})


def missing_variable(variables: Variables) -> bytes:
    return serialize({name: v for name, v in variables.items() if name != "encoder/layer_1/ffn/linear_0/bias"})


def key_bias(variables: Variables) -> bytes:
    name = "encoder/layer_0/self_attention/linear_0/bias"
    return serialize(variables | {name: np.ones_like(variables[name])})


def untied(variables: Variables) -> bytes:
    table = variables["decoder/embeddings/weight"]
    return serialize(variables | {"decoder/projection/weight": table + 1}, aliases={})


def wrong_size(variables: Variables) -> bytes:
    data = serialize(variables)
    at = data.index(b"encoder/position_encodings/encodings\0") + len(b"encoder/position_encodings/encodings\0") + 1
    return data[:at] + b"\x01" + data[at + 1 :]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda v: serialize(v)[:-5], "cut short"),
        (lambda v: serialize(v)[:5000], "cut short"),
        (lambda v: serialize(v)[:6], "is no CTranslate2 model"),
        (lambda v: b"", "is no CTranslate2 model"),
        (lambda v: b"PK\x03\x04" + bytes(100), "is no CTranslate2 model"),
        (lambda v: serialize(v) + b"x", "1 bytes follow"),
        (lambda v: serialize(v, version=5), "version 5"),
        (lambda v: serialize(v, spec="TransformerSpec"), "TransformerSpec, not a Whisper"),
        (lambda v: serialize(v, {"decoder/projection/weight": "nothing"}), "an alias names `nothing`"),
        (wrong_size, "is corrupt"),
        (foreign_variable, "adapter"),
        (missing_variable, "encoder/layer_1/ffn/linear_0/bias"),
        (key_bias, "have a bias"),
        (untied, "is not its embedding"),
    ],
)
def test_a_broken_or_foreign_file_is_named(
    broken: Callable[[Variables], bytes], said: str, variables: Variables, tmp_path: Path, cache: Path
) -> None:
    folder = write_ct2(tmp_path / "w", broken(variables))
    with pytest.raises(UserError, match="model.bin.*" + said.replace("(", r"\(")):
        resolve(str(folder))
    assert not list((cache / "checkpoints").glob("*")) if cache.exists() else True


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_missing_small_file_is_named(name: str, variables: Variables, tmp_path: Path) -> None:
    folder = write_ct2(tmp_path / "w", serialize(variables))
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"without {name}"):
        resolve(str(folder))


@pytest.mark.parametrize(("name", "content"), [("config.json", "{}"), ("config.json", "no"), ("tokenizer.json", "[]")])
def test_a_broken_small_file_is_named(name: str, content: str, variables: Variables, tmp_path: Path) -> None:
    folder = write_ct2(tmp_path / "w", serialize(variables))
    (folder / name).write_text(content)
    with pytest.raises(UserError, match=name):
        resolve(str(folder))


def test_a_changed_file_is_converted_again(variables: Variables, tmp_path: Path) -> None:
    folder = write_ct2(tmp_path / "w", serialize(variables))
    first = resolve(str(folder))
    assert resolve(str(folder)) == first
    (folder / "config.json").write_text(json.dumps(CONFIG | {"suppress_ids": [4]}))
    second = resolve(str(folder))
    assert second.sha256 == first.sha256 and second.folder != first.folder
    assert json.loads((second.folder / "generation_config.json").read_text())["suppress_tokens"] == [4]
