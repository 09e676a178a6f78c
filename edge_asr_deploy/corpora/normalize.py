"""Text normalizers, named and versioned: a word error rate means nothing without the one it was computed with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import metadata

from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from edge_asr_deploy.errors import UserError


@dataclass(frozen=True)
class Normalizer:
    """A rule that makes two spellings of the same speech equal. `version` names its package and the version."""

    name: str
    version: str
    rule: Callable[[str], str]

    def __call__(self, text: str) -> str:
        """The normalized text; words are separated by single spaces."""
        return " ".join(self.rule(text).split())


@cache
def normalizer(name: str) -> Normalizer:
    """The normalizer of that name.

    `whisper-english`: Whisper's for English (numbers, contractions, titles, and its British-to-American spelling map).
    `whisper-basic`: Whisper's for all other languages (case, punctuation, brackets).
    Both as in Whisper's paper (arXiv 2212.04356, appendix C). UserError when the name is unknown.
    """
    rules: dict[str, Callable[[], Callable[[str], str]]] = {
        "whisper-english": EnglishTextNormalizer,
        "whisper-basic": BasicTextNormalizer,
    }
    if name not in rules:
        raise UserError("normalizer", name, f"choose one of {', '.join(rules)}")
    version = f"whisper-normalizer {metadata.version('whisper-normalizer')}"
    return Normalizer(name, version, rules[name]())


def normalizer_for(language: str | None) -> Normalizer:
    """The normalizer for a language code or name; None means English, the language of the default corpora."""
    is_english = language is None or language.lower() in ("en", "english")
    return normalizer("whisper-english" if is_english else "whisper-basic")
