"""Prompts, refusals and limits of both families, from their configuration files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families.moonshine import SHORTEST
from edge_asr_deploy.runtime.decoding.configuration import read_generation
from edge_asr_deploy.runtime.decoding.family import Family
from edge_asr_deploy.runtime.decoding.moonshine import Moonshine
from edge_asr_deploy.runtime.decoding.whisper import Whisper

ENGLISH = {
    "decoder_start_token_id": 10,
    "eos_token_id": 9,
    "max_length": 448,
    "no_timestamps_token_id": 30,
    "suppress_tokens": [1, 2],
    "begin_suppress_tokens": [9],
}
MULTILINGUAL = {
    **ENGLISH,
    "lang_to_id": {"<|en|>": 11, "<|de|>": 12, "<|es|>": 13},
    "task_to_id": {"transcribe": 21, "translate": 20},
}


def configured(folder: Path, generation: dict[str, Any], **config: Any) -> Path:
    (folder / "generation_config.json").write_text(json.dumps(generation))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def english(tmp_path: Path) -> Family:
    return Whisper(configured(tmp_path, ENGLISH))


@pytest.fixture
def multilingual(tmp_path: Path) -> Family:
    return Whisper(configured(tmp_path, MULTILINGUAL))


@pytest.fixture
def moonshine(tmp_path: Path) -> Family:
    return Moonshine(configured(tmp_path, {}, decoder_start_token_id=1, eos_token_id=2, max_position_embeddings=194))


@pytest.mark.parametrize("language", ["de", "DE", "german", "German"])
def test_a_language_may_be_named_or_coded(multilingual: Family, language: str) -> None:
    assert multilingual.prompt(language, None) == (10, 12, 21, 30)


def test_castilian_is_spanish(multilingual: Family) -> None:
    assert multilingual.prompt("castilian", None) == (10, 13, 21, 30)


@pytest.mark.parametrize("own", ["german", "de", "<|de|>", "DE"])
def test_a_fine_tune_speaks_its_own_language_unasked(tmp_path: Path, own: str) -> None:
    model = Whisper(configured(tmp_path, {**MULTILINGUAL, "language": own, "task": "translate"}))
    assert model.prompt(None, None) == (10, 12, 20, 30)
    assert model.prompt("es", "transcribe") == (10, 13, 21, 30)
    assert model.prompt("auto", None) == (10, None, 20, 30)


@pytest.mark.parametrize("own", ["klingon", ["de", "es"], None, 5])
def test_settings_that_name_no_language_of_the_model_leave_it_to_be_detected(tmp_path: Path, own: object) -> None:
    model = Whisper(configured(tmp_path, {**MULTILINGUAL, "language": own}))
    assert model.prompt(None, None) == model.prompt("auto", None) == (10, None, 21, 30)


def test_a_task_may_be_named(multilingual: Family) -> None:
    assert multilingual.prompt("de", "translate") == (10, 12, 20, 30)


def test_without_a_language_its_place_is_left_open(multilingual: Family) -> None:
    assert multilingual.prompt(None, None) == (10, None, 21, 30)
    assert multilingual.languages() == {11: "en", 12: "de", 13: "es"}


@pytest.mark.parametrize("language", ["klingon", "fr", ""])
def test_a_language_that_the_model_lacks_is_refused(multilingual: Family, language: str) -> None:
    with pytest.raises(UserError, match=r"--language: .*choose one of en, de, es"):
        multilingual.prompt(language, None)


def test_a_task_that_does_not_exist_is_refused(multilingual: Family) -> None:
    with pytest.raises(
        UserError, match="--task: summarize: this model does not have the task; choose one of transcribe, translate"
    ):
        multilingual.prompt("de", "summarize")


def test_an_english_model_needs_no_language_and_takes_no_other(english: Family, moonshine: Family) -> None:
    for model, prompt in ((english, (10, 30)), (moonshine, (1,))):
        assert model.prompt(None, None) == model.prompt("en", "transcribe") == model.prompt("English", None) == prompt
        with pytest.raises(UserError, match="--language: de"):
            model.prompt("de", None)
        with pytest.raises(UserError, match="--task: translate"):
            model.prompt(None, "translate")


def test_whisper_has_room_for_448_tokens_with_the_prompt(english: Family) -> None:
    assert english.longest(16_000, prompt=2) == english.longest(480_000, prompt=2) == 446


def test_moonshine_may_say_six_and_a_half_tokens_a_second_and_two(moonshine: Family) -> None:
    assert moonshine.longest(16_000, prompt=1) == 8
    assert moonshine.longest(10 * 16_000, prompt=1) == 67
    assert moonshine.longest(30 * 16_000, prompt=1) == 193


@pytest.mark.parametrize(
    ("text", "tokens", "seconds"),
    [
        ("안녕하세요", 15, 13),  # Korean, three bytes a letter
        ("Привет, мир", 20, 13),  # Cyrillic, two bytes a letter
        ("hello there my friend", 8, 6.5),
        ("I I I I I", 8, 6.5),
        ("", 8, 6.5),  # bytes that make no letter
        ("a", 8, 6.5),
    ],
)
def test_moonshine_may_say_more_in_a_script_that_it_spells(
    moonshine: Family, text: str, tokens: int, seconds: float
) -> None:
    assert moonshine.longest(10 * 16_000, 1, (text, tokens)) == int(10 * seconds) + 2


@pytest.mark.parametrize("vocab_size", [40, None])
def test_suppressed_ids_outside_the_vocabulary_are_ignored(tmp_path: Path, vocab_size: int | None) -> None:
    """-1 once stood for none; an id beyond the head has no score."""
    settings = {**ENGLISH, "suppress_tokens": [-1, 1, 41], "begin_suppress_tokens": [9, 99_999_999]}
    rules = Whisper(configured(tmp_path, settings, vocab_size=vocab_size)).rules
    assert rules.never.tolist() == ([1, 41] if vocab_size is None else [1])
    assert rules.never_first.tolist() == [9]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("decoder_start_token_id", None),
        ("decoder_start_token_id", 40),
        ("decoder_start_token_id", -1),
        ("decoder_start_token_id", "\x1b[31m"),
        ("decoder_start_token_id", True),
        ("eos_token_id", None),
        ("eos_token_id", []),
        ("eos_token_id", [[9]]),
        ("no_timestamps_token_id", 304_000_000_000),
        ("suppress_tokens", {"a": 1}),
        ("suppress_tokens", [1.5]),
        ("lang_to_id", ["<|en|>"]),
        ("lang_to_id", {"<|en|>": "eleven"}),
        ("task_to_id", 5),
        ("max_length", 0),
        ("max_length", "448"),
        ("max_target_positions", 10**30),
        ("vocab_size", -5),
        ("vocab_size", 30_000_000),
    ],
)
def test_settings_that_are_no_tokens_or_numbers_are_named(tmp_path: Path, key: str, value: object) -> None:
    settings = {**MULTILINGUAL, "vocab_size": 40, key: value}
    with pytest.raises(UserError, match=rf"generation_config\.json: (vocab_size|{key}) is .*; export the bundle again"):
        Whisper(configured(tmp_path, settings))


def test_moonshine_pads_what_its_convolutions_cannot_take(moonshine: Family) -> None:
    inputs = moonshine.inputs(np.ones(100, np.float32))
    assert inputs["input_values"].shape == inputs["attention_mask"].shape == (1, SHORTEST)
    assert inputs["input_values"].sum() == 100
    assert moonshine.inputs(np.ones(2000, np.float32))["input_values"].shape == (1, 2000)


def test_several_end_tokens_are_all_ends(tmp_path: Path) -> None:
    assert Whisper(configured(tmp_path, {**ENGLISH, "eos_token_id": [8, 9]})).rules.end == {8, 9}


def test_what_the_generation_config_leaves_out_is_in_the_config(tmp_path: Path) -> None:
    model = Whisper(configured(tmp_path, {}, **{**ENGLISH, "max_target_positions": 40}))
    assert model.prompt(None, None) == (10, 30)
    assert model.longest(16_000, prompt=2) == 38


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_a_configuration_that_is_nested_without_end_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[" * 200_000 + "]" * 200_000)
    with pytest.raises(UserError, match=rf"{name}: is not JSON \(maximum recursion depth exceeded"):
        read_generation(tmp_path)


def test_a_broken_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(UserError, match=r"config\.json: must be a JSON object"):
        Whisper(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json: is not JSON"):
        Whisper(tmp_path)
