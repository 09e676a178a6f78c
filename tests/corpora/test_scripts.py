"""Errors in texts of all scripts: what is a letter, what is a word, and that Latin text is counted as ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from whisper_normalizer.basic import BasicTextNormalizer

from edge_asr_deploy.corpora.normalize import normalizer, normalizer_for
from edge_asr_deploy.corpora.scripts import holds_unspaced, words_apart
from edge_asr_deploy.harness.evaluation.wer import WordCounts, count

# Latin letters with and without marks, marks alone, punctuation, symbols, joiners; not the Greek letter among them.
LATIN = st.text(
    st.one_of(
        *(st.characters(min_codepoint=low, max_codepoint=high, exclude_characters="\xb5") for low, high in (
            (0x20, 0x24F), (0x300, 0x36F), (0x1E00, 0x1EFF), (0x2000, 0x206F),
        ))
    ),
    max_size=20,
)  # fmt: skip


def errors(language: str, reference: str, hypothesis: str) -> WordCounts:
    rule = normalizer_for(language, [reference])
    return count(rule(reference), rule(hypothesis))


@pytest.mark.parametrize(
    ("language", "reference", "hypothesis", "wrong", "units"),
    [
        # Three of four words have other vowel signs.
        ("hi", "मैं घर जाता हूँ", "मै घर जात हो", 3, 4),
        ("ta", "தமிழ் மொழி", "தமழ மொழி", 1, 2),
        # One character of ten, one of six, one of three clusters.
        ("ja", "今日は学校に行きます。", "今日は学校に行きました", 2, 10),
        ("zh", "今天天气很好", "今天天气不好", 1, 6),
        ("th", "ดีมาก", "ดืมาก", 1, 4),
        # Words in other scripts among them are spelled out as well.
        ("zh", "学习Python编程", "学习 Pithon 编程", 1, 10),
        ("ko", "오늘 날씨가 좋다", "오늘 날씨 좋다", 1, 3),
        # Vowel points and stress are reading aids: the texts say the same.
        ("ar", "مُحَمَّدٌ ذهب", "محمد ذهب", 0, 2),
        ("he", "שָׁלוֹם עולם", "שלום עולם", 0, 2),
        ("ru", "за́мок открыт, йод", "замок открыт йод", 0, 3),
        # A letter that is written as one or as two code points.
        ("ru", "\u0438\u0306од ёлка", "йод ёлка", 0, 2),
        ("hi", "क\u200dष", "कष", 0, 1),
        ("km", "ខ្ញុំ\u200bទៅ", "ខ្ញុំទៅ", 0, 2),
        ("de", "Grüße, schöne!", "grüße schone", 1, 2),
    ],
)
def test_errors_are_of_words_or_characters(
    language: str, reference: str, hypothesis: str, wrong: int, units: int
) -> None:
    counts = errors(language, reference, hypothesis)
    assert (counts.errors, counts.words) == (wrong, units)


@given(LATIN)
def test_latin_text_is_normalized_as_in_whispers_paper(text: str) -> None:
    assert normalizer("whisper-marks")(text) == normalizer("whisper-basic")(text)
    assert normalizer("whisper-basic")(text) == " ".join(BasicTextNormalizer()(text).split())


@given(LATIN, LATIN)
def test_latin_text_is_counted_as_it_stands(text: str, other: str) -> None:
    assert words_apart(text) == text and not holds_unspaced(other)


@pytest.mark.parametrize("tag", ["ja", "japanese", "ja-JP", "zh-CN", "zh_Hant_TW", "cmn-Hans", "yue", "Thai", "my"])
def test_languages_without_spaces_are_counted_by_characters(tag: str) -> None:
    assert normalizer_for(tag).name == "whisper-characters"
    assert normalizer_for(tag).rate == "CER"


@pytest.mark.parametrize("tag", [None, "en", "en-US", "en_GB", "English", "EN"])
def test_english_is_english_whatever_the_tag(tag: str | None) -> None:
    assert (normalizer_for(tag).name, normalizer_for(tag).rate) == ("whisper-english", "WER")
    assert normalizer_for(tag, ["It's 10 %.", None, ""]).name == "whisper-english"


def test_references_decide_where_the_language_does_not() -> None:
    """A model for one language has no use for --language, and its speech is what it is."""
    assert normalizer_for("en", ["今日は学校に行きます", "OK"]).rate == "CER"
    assert normalizer_for("en", ["मैं घर जाता हूँ"]).name == "whisper-marks"
    assert normalizer_for("en", ["a whole sentence of English", "今日は"]).name == "whisper-english"


def test_a_sentence_without_spaces_among_others_is_never_one_word() -> None:
    rule = normalizer_for("en", ["a whole sentence of English", "今日は"])
    assert count(rule("今日は OK"), rule("今日わ OK")) == WordCounts(substitutions=1, words=4)
    # What is heard beside English stays what it was: one word.
    assert count(rule("good day"), rule("good 今日は")) == WordCounts(substitutions=1, words=2)


def test_words_apart_leaves_characters_as_they_were_parted() -> None:
    text = normalizer("whisper-characters")("ខ្ញុំទៅ ဗမာစာ กี่ ラーメン abc")
    assert words_apart(text) == text
