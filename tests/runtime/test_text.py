"""Tokens become the text that Transformers makes of them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models
from tokenizers.pre_tokenizers import ByteLevel

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.decoding.text import TextDecoder
from tests.support.vocabulary import SPECIAL, tokenizer


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    built = tokenizer()
    built.add_tokens(["<|0.00|>", "▁.", "▁'s"])
    built.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_special_tokens_and_outer_spaces_are_left_out(bundle: Path) -> None:
    assert TextDecoder(bundle)([SPECIAL["<|en|>"], 3, 4, SPECIAL["<|notimestamps|>"]]) == "w3 w4"
    assert TextDecoder(bundle)([]) == ""


def test_times_are_not_text(bundle: Path) -> None:
    assert TextDecoder(bundle)([305, 3, 305]) == "w3"


def byte_level(path: Path) -> Tokenizer:
    """Every byte is a token, and after them stand Whisper's times and the words that a fine-tune added."""
    built = Tokenizer(models.BPE({text: number for number, text in enumerate(sorted(ByteLevel.alphabet()))}, []))
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens([AddedToken("<|notimestamps|>", special=True)])
    built.add_tokens([AddedToken(f"<|{number * 0.02:.2f}|>", special=False) for number in range(1501)])
    built.add_tokens(["Kwikfit", " in ", "Zürich", "東京"])
    built.save(str(path / "tokenizer.json"))
    return built


def test_words_behind_the_times_are_text(tmp_path: Path) -> None:
    ids = byte_level(tmp_path).token_to_id
    decode = TextDecoder(tmp_path)
    words = [ids("Kwikfit"), ids(" in "), ids("Zürich")]
    assert decode([ids("<|0.00|>"), *words, ids("<|30.00|>"), ids("東京")]) == "Kwikfit in Zürich東京"


def test_a_word_in_the_place_of_a_time_is_text(tmp_path: Path) -> None:
    """A tokenizer without times gives the first added word the id of 0.00."""
    built = tokenizer()
    built.add_tokens(["▁Kwikfit"])
    built.save(str(tmp_path / "tokenizer.json"))
    assert TextDecoder(tmp_path)([3, SPECIAL["<|notimestamps|>"] + 1]) == "w3 Kwikfit"


def test_bytes_that_make_no_letter_are_left_out(tmp_path: Path) -> None:
    ids = byte_level(tmp_path).token_to_id
    decode = TextDecoder(tmp_path)
    e, half = [ids(text) for text in "Ã©"], ids("Ã")
    assert decode(e) == "é"
    assert decode([*e, half]) == "é"
    assert decode([half] * 20) == ""


@pytest.mark.parametrize("clean_up", [True, False])
def test_spaces_are_cleaned_up_where_the_tokenizer_asks_for_it(bundle: Path, clean_up: bool) -> None:
    transformers = pytest.importorskip("transformers")
    (bundle / "tokenizer_config.json").write_text(json.dumps({"clean_up_tokenization_spaces": clean_up}))
    fast = transformers.PreTrainedTokenizerFast.from_pretrained(bundle)
    text = TextDecoder(bundle)([3, 307, 306])
    assert text == fast.decode([3, 307, 306], skip_special_tokens=True).strip()
    assert text == ("w3's." if clean_up else "w3 's .")


def test_a_broken_tokenizer_is_named(bundle: Path) -> None:
    (bundle / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        TextDecoder(bundle)


@pytest.mark.parametrize("number", [1_000_000, 30_000_000, 2**32 - 1])
@pytest.mark.parametrize("bundle_hash", [None, "a" * 64])
def test_a_number_that_no_vocabulary_has_is_refused_at_once(bundle: Path, number: int, bundle_hash: str | None) -> None:
    content = json.loads((bundle / "tokenizer.json").read_text())
    content["model"]["vocab"]["far"] = number
    (bundle / "tokenizer.json").write_text(json.dumps(content))
    started = time.process_time()
    with pytest.raises(UserError, match=f"has a token of the number {number}"):
        TextDecoder(bundle, bundle_hash)
    assert time.process_time() - started < 2


def test_the_last_number_that_is_taken(bundle: Path) -> None:
    content = json.loads((bundle / "tokenizer.json").read_text())
    content["model"]["vocab"]["▁far"] = 999_999
    (bundle / "tokenizer.json").write_text(json.dumps(content))
    assert TextDecoder(bundle)([3, 999_999]) == "w3 far"
