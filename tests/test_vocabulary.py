"""The vocabulary for engines that do not read `tokenizer.json`."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from edge_asr_deploy.bundle.vocabulary import write_vocabulary
from edge_asr_deploy.harness.gate import checks

TEXT = "Grüße aus Zürich, 12 €\n"


def byte_level() -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    vocabulary |= {"": 256, "us": 257}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("u", "s")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.add_tokens([AddedToken("<|0.02|>", normalized=False)])
    return tokenizer


def sentencepiece() -> Tokenizer:
    vocabulary = {"<unk>": 0, **{f"<0x{number:02X}>": number + 1 for number in range(256)}}
    vocabulary |= {letter: 300 + number for number, letter in enumerate("▁Grßeasich,12\n")}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<unk>"])
    return tokenizer


def written(tokenizer: Tokenizer, folder: Path) -> Path:
    tokenizer.save(str(folder / "tokenizer.json"))
    write_vocabulary(folder)
    return folder


def spoken(folder: Path) -> dict[int, bytes]:
    lines = (line.split(" ") for line in (folder / "tokens.txt").read_text().splitlines())
    return {int(number): base64.b64decode(token, validate=True) for token, number in lines}


@pytest.mark.parametrize("make", [byte_level, sentencepiece])
def test_the_bytes_of_tokens_are_those_of_the_text(make: object, tmp_path: Path) -> None:
    tokenizer = make()  # type: ignore[operator]
    tokens = spoken(written(tokenizer, tmp_path))
    assert b"".join(tokens[number] for number in tokenizer.encode(TEXT).ids).decode() == TEXT


def test_special_tokens_times_and_nothing_are_not_spoken(tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokens = spoken(written(tokenizer, tmp_path))
    assert len(tokens) == 257 and 256 not in tokens
    assert tokenizer.token_to_id("<|endoftext|>") not in tokens and tokenizer.token_to_id("<|0.02|>") not in tokens


def test_the_vocabulary_and_what_was_added_make_the_whole(tmp_path: Path) -> None:
    tokenizer = byte_level()
    folder = written(tokenizer, tmp_path)
    vocabulary, added = (json.loads((folder / name).read_text()) for name in ("vocab.json", "added_tokens.json"))
    assert vocabulary | added == tokenizer.get_vocab(with_added_tokens=True)
    assert added.keys() == {"<|endoftext|>", "<|0.02|>"}
    assert (folder / "merges.txt").read_text().splitlines() == ["#version: 0.2", "u s"]


def test_times_have_names_though_the_tokenizer_lacks_them(tmp_path: Path) -> None:
    """onnx-asr suppresses nothing, and fails on a token of the model that has no name."""
    tokenizer = byte_level()
    tokenizer.add_special_tokens(["<|notimestamps|>"])
    tokenizer.add_tokens(["another"])
    first = tokenizer.token_to_id("<|notimestamps|>") + 1
    added = json.loads((written(tokenizer, tmp_path) / "added_tokens.json").read_text())
    assert added["another"] == first and "<|0.00|>" not in added, "an id that has a token keeps it"
    assert added["<|0.02|>"] == tokenizer.token_to_id("<|0.02|>"), "a time that is there keeps its id"
    assert added["<|0.04|>"] == first + 2 and added["<|30.00|>"] == first + 1500
    assert len({*added.values()}) == len(added)


def test_transformers_builds_the_same_tokenizer_from_them(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = written(byte_level(), tmp_path)
    slow = transformers.GPT2Tokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    assert slow.decode(slow.encode("us")) == "us" and slow.encode("us") == [257]


def test_files_of_the_checkpoint_are_kept(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text("{}")
    assert (written(byte_level(), tmp_path) / "vocab.json").read_text() == "{}"


def test_a_vocabulary_without_merges_has_no_file_of_them(tmp_path: Path) -> None:
    assert not (written(sentencepiece(), tmp_path) / "merges.txt").exists()


def test_the_gate_takes_records_from_before_these_files() -> None:
    measured = {"tokenizer.json": "a", "vocab.json": "b"}
    assert checks.check_side_files(measured, {"tokenizer.json": "a"}).verdict == "passed"
    assert checks.check_side_files(measured, {"tokenizer.json": "a", "vocab.json": "c"}).verdict == "failed"
    assert checks.check_side_files({"tokenizer.json": "a"}, measured).verdict == "failed"
    assert checks.check_side_files({**measured, "config.json": "d"}, measured).verdict == "failed"
