"""A language by its code, its tag or its name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import family
from edge_asr_deploy.families.languages import LANGUAGE_CODES, language_code
from edge_asr_deploy.runtime.decoding.whisper import refuse_choice


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("en-US", "en"), ("zh-CN", "zh"), ("zh_Hans_CN", "zh"), ("cmn-Hans-CN", "zh"), ("zh-yue-HK", "yue"),
        ("pt_BR", "pt"), ("GERMAN", "de"), (" de ", "de"), ("haitian creole", "ht"), ("no", "no"), ("nb-NO", "no"),
        ("haw", "haw"), ("fil", "tl"), ("iw", "he"), ("klingon", "klingon"),
    ],
)  # fmt: skip
def test_a_language_is_understood(given: str, code: str) -> None:
    assert language_code(given) == code


def test_every_code_means_itself() -> None:
    assert all(language_code(code) == code for code in LANGUAGE_CODES.values())


def test_an_export_takes_what_a_transcription_takes() -> None:
    generation = SimpleNamespace(
        decoder_start_token_id=1,
        no_timestamps_token_id=2,
        is_multilingual=True,
        lang_to_id={"<|en|>": 3, "<|zh|>": 4},
        task_to_id={"transcribe": 5},
    )
    whisper = family("whisper")
    assert whisper.prompt(generation, "zh-CN", "transcribe") == (1, 4, 5, 2)
    assert whisper.prompt(generation, "english", "transcribe") == (1, 3, 5, 2)
    with pytest.raises(UserError, match="this model knows en, zh"):
        whisper.prompt(generation, "de-AT", "transcribe")


def test_english_with_a_country_is_english_to_a_model_of_one_language() -> None:
    refuse_choice("en-US", None)
    with pytest.raises(UserError, match="leave --language out"):
        refuse_choice("de", None)
