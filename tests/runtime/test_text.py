"""Tokens become the text that Transformers makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
    assert TextDecoder(bundle, first_timestamp=305)([305, 3, 305]) == "w3"


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
