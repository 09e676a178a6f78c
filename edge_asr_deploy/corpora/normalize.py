"""Text normalizers, named and versioned: an error rate means nothing without the one it was computed with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Literal

from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from edge_asr_deploy.corpora.scripts import characters, is_mostly_latin, is_mostly_unspaced, with_vowel_signs
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families.languages import language_code

# Whisper's paper scores these by characters, too; Khmer, Tibetan and Cantonese are written like them.
UNSPACED = frozenset({"zh", "yue", "ja", "th", "lo", "km", "my", "bo"})
Rate = Literal["WER", "CER"]


@dataclass(frozen=True)
class Normalizer:
    """A rule that makes two spellings of the same speech equal. `version` names its package and the version.

    `rate`: what is counted in its texts, words (WER) or characters (CER).
    """

    name: str
    version: str
    rule: Callable[[str], str]
    rate: Rate = "WER"

    def __call__(self, text: str) -> str:
        """The normalized text; what is counted is separated by single spaces."""
        return " ".join(self.rule(text).split())


@cache
def normalizer(name: str) -> Normalizer:
    """The normalizer of that name.

    `whisper-english`: Whisper's for English (numbers, contractions, titles, and its British-to-American spelling map).
    `whisper-marks`: Whisper's for all other languages (case, punctuation, brackets), but vowel signs stay. On Latin
    text they are as in Whisper's paper (arXiv 2212.04356, appendix C).
    `whisper-characters`: the same, with a space between all characters, as the paper has it for languages without.
    `whisper-basic`: Whisper's own for other languages, which drops vowel signs; for results of earlier versions.
    UserError when the name is unknown.
    """
    rules: dict[str, Callable[[], Callable[[str], str]]] = {
        "whisper-english": EnglishTextNormalizer,
        "whisper-marks": _marks,
        "whisper-characters": _characters,
        "whisper-basic": BasicTextNormalizer,
    }
    if name not in rules:
        raise UserError("normalizer", name, f"choose one of {', '.join(rules)}")
    version = f"whisper-normalizer {metadata.version('whisper-normalizer')}"
    return Normalizer(name, version, rules[name](), "CER" if name == "whisper-characters" else "WER")


def normalizer_for(language: str | None, references: Iterable[str | None] = ()) -> Normalizer:
    """The normalizer for a language's code, tag or name; None means English, the language of the default corpora.

    The references decide where the language says too little: what is mostly in a script without spaces is counted by
    characters whatever the language, and the rules for English are for Latin text alone.
    """
    texts = [text for text in references if text]
    code = "en" if language is None else language_code(language)
    if code in UNSPACED or is_mostly_unspaced(texts):
        return normalizer("whisper-characters")
    return normalizer("whisper-english" if code == "en" and is_mostly_latin(texts) else "whisper-marks")


def _marks() -> Callable[[str], str]:
    basic = BasicTextNormalizer(preserve_marks=True)
    return lambda text: with_vowel_signs(basic(text))


def _characters() -> Callable[[str], str]:
    marks = _marks()
    return lambda text: characters(marks(text))
