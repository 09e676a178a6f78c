"""whisper.cpp's files as checkpoints."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

pytest.importorskip("torch")
pytest.importorskip("transformers")

from edge_asr_deploy.bundle.vocabulary import TIME, byte_letters
from edge_asr_deploy.checkpoints import resolve
from edge_asr_deploy.errors import UserError
from tests.support.ggml_files import FLOAT16, FLOAT32, small, words, write_ggml

ENGLISH, MULTILINGUAL = 51_864, 51_865


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ASR_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(("size", "number"), [(ENGLISH, 50_256), (MULTILINGUAL, 50_257)])
@pytest.mark.parametrize("kind", [FLOAT32, FLOAT16])
def test_weights_and_words_come_through(tmp_path: Path, size: int, number: int, kind: int) -> None:
    config, weights = small(size)
    path = write_ggml(tmp_path / "ggml-nano.bin", config, words(number), weights, kind)
    checkpoint = resolve(str(path))
    assert (checkpoint.name, checkpoint.family) == ("whisper-nano", "whisper")
    state = load_file(checkpoint.folder / "model.safetensors")
    assert state.keys() == weights.keys() - {"proj_out.weight"}
    for name, values in state.items():
        is_half = kind == FLOAT16 and values.ndim > 1 and "positions" not in name
        expected = weights[name].astype(np.float16 if is_half else np.float32).astype(np.float32)
        np.testing.assert_array_equal(values, expected, err_msg=name)
    tokenizer = Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == size
    assert tokenizer.token_to_id("<|endoftext|>") == number and tokenizer.token_to_id("<|30.00|>") == size - 1
    settings = json.loads((checkpoint.folder / "generation_config.json").read_text())
    assert settings["is_multilingual"] is (size == MULTILINGUAL)
    assert settings.get("lang_to_id", {}).get("<|su|>") == (50_357 if size == MULTILINGUAL else None)


@pytest.mark.real
@pytest.mark.timeout(900)
def test_of_a_real_whisper_everything_comes_back(tmp_path: Path) -> None:
    """tiny.en through whisper.cpp's format: words, pairs, special tokens and settings are those that OpenAI gave it."""
    try:
        original = resolve("whisper-tiny.en").folder
    except UserError as error:
        pytest.skip(str(error))
    stored = json.loads((original / "tokenizer.json").read_text(encoding="utf-8"))
    values = {letter: value for value, letter in byte_letters().items()}
    ordered = sorted(stored["model"]["vocab"], key=stored["model"]["vocab"].__getitem__)
    spoken = [bytes(values[letter] for letter in token) for token in ordered]
    state = load_file(original / "model.safetensors")
    config = json.loads((original / "config.json").read_text())
    path = write_ggml(tmp_path / "ggml-tiny.en.bin", config, spoken, state, FLOAT32)
    folder = resolve(str(path)).folder
    found = load_file(folder / "model.safetensors")
    for name in found:
        np.testing.assert_array_equal(found[name], state[name], err_msg=name)
    ours = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in stored["model"]["merges"]]
    assert [" ".join(pair) for pair in ours["model"]["merges"]] == pairs
    numbers, expected = (
        Tokenizer.from_file(str(one / "tokenizer.json")).get_vocab(with_added_tokens=True) for one in (folder, original)
    )
    # OpenAI's later names of two tokens.
    renamed = {"<|nocaptions|>": "<|nospeech|>", "<|iw|>": "<|he|>"}
    named = {renamed.get(name, name): number for name, number in expected.items()}
    assert {name: number for name, number in numbers.items() if not TIME.fullmatch(name)} == named
    settings, given = (json.loads((one / "generation_config.json").read_text()) for one in (folder, original))
    for key in ("suppress_tokens", "begin_suppress_tokens", "no_timestamps_token_id", "decoder_start_token_id"):
        assert settings[key] == given[key], key


def written(tmp_path: Path) -> Path:
    config, weights = small(ENGLISH)
    return write_ggml(tmp_path / "ggml-nano.bin", config, words(50_256), weights, FLOAT16)


def put(path: Path, at: int, *numbers: int) -> Path:
    content = bytearray(path.read_bytes())
    struct.pack_into(f"<{len(numbers)}i", content, at, *numbers)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("at", "number", "said"),
    [
        (44, 2008, r"is quantized already \(q5_0\).*give the f16 or f32 file"),
        (44, 5, "weights of ggml's type 5"),
        (4, 1000, "sizes|vocabulary"),
        (40, 128, "cut short|has a tensor|sizes|tokens"),
        (48, 2**31 - 1, "cut short"),
        (52, -1, "has a tensor of shape"),
        (56 + 4 * 80 * 201, 10**9, "says that it has 1000000000 tokens"),
        (56 + 4 * 80 * 201, 12, "cut short|no tensor|no vocabulary"),
        (60 + 4 * 80 * 201, 2**20, "has a token of 1048576 bytes"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(tmp_path: Path, at: int, number: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        resolve(str(put(written(tmp_path), at, number)))


@pytest.mark.parametrize("share", [0.001, 0.3, 0.99])
def test_a_cut_file_is_refused(tmp_path: Path, share: float) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=r"cut short|has no"):
        resolve(str(path))


def test_a_file_of_another_program_is_no_file_of_whisper_cpp(tmp_path: Path) -> None:
    (tmp_path / "ggml-tiny.bin").write_bytes(b"GGUF")
    with pytest.raises(UserError, match="is no file of whisper"):
        resolve(str(tmp_path / "ggml-tiny.bin"))


def test_a_folder_with_such_a_file_names_it(tmp_path: Path) -> None:
    (tmp_path / "ggml-tiny.bin").touch()
    with pytest.raises(UserError, match="give that file"):
        resolve(str(tmp_path))
