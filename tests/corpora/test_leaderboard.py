"""Texts as the Open ASR leaderboard compares them."""

from __future__ import annotations

import pytest

from edge_asr_deploy.corpora.leaderboard import acronyms_joined, joined_alike, leaderboard_normalizer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Uh, the B.B.C. said ah well", "the bbc said well"),
        ("the 5 G wi-fi, et cetera", "the 5g wifi etc"),
        ("It's the king's, 'cause he's OK", "it is the king s cause he is okay"),
        ("All right: a travelogue on archaeology", "alright a travelog on archeology"),
        ("It cost $5.20 at 10 a.m.", "it cost $5.20 at 10 am"),
        ("twenty-one colours", "21 colors"),
    ],
)
def test_english(text: str, expected: str) -> None:
    assert leaderboard_normalizer("en")(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("b b c news", "bbc news"), ("a b", "a b"), ("a b c", "abc"), ("i a big", "i a big"), ("x", "x"), ("", "")],
)
def test_letters_in_a_row_are_an_acronym(text: str, expected: str) -> None:
    assert acronyms_joined(text) == expected


def test_other_languages_keep_marks_and_write_numbers_out() -> None:
    pytest.importorskip("num2words", reason="the extra is not installed: pip install edge-asr-deploy[leaderboard]")
    assert leaderboard_normalizer("fr")("L'été (rires), 21 jours!") == "l été vingt et un jours"
    assert leaderboard_normalizer("es")("10 000 años") == "diez mil años"
    # num2words does not know every language.
    assert leaderboard_normalizer("ba")("21") == "21"


def test_words_that_differ_by_spaces_alone_are_joined() -> None:
    assert joined_alike("das white paper da", "das whitepaper da") == ("das whitepaper da",) * 2
    assert joined_alike("a b c", "a x c") == ("a b c", "a x c")
    assert joined_alike("a", "") == ("a", "")


def test_it_names_rules_and_packages() -> None:
    scorer = leaderboard_normalizer("en")
    assert scorer.name == "open-asr-en"
    assert "rules of 2026-08" in scorer.version and "whisper-normalizer" in scorer.version
