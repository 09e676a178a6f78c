"""The text rules of the Open ASR leaderboard since June 2026, on top of Whisper's normalizer.

Rules are those of github.com/huggingface/open_asr_leaderboard (`normalizer/`, commit d1e99b2 of August 2026), written
anew, with one left out: the leaderboard's English list of some 150 spellings of first names (`stephen`, `steven`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from difflib import SequenceMatcher
from functools import cache
from importlib import metadata
from typing import Any

from whisper_normalizer.english import EnglishTextNormalizer

from edge_asr_deploy.corpora.normalize import Normalizer
from edge_asr_deploy.errors import UserError

RULES = "rules of 2026-08 without names"
_FILLERS = (
    *("hmm", "mm", "mhm", "mmm", "uh", "um", "ah", "aha", "ahh", "ahm", "eh", "ehehe", "em", "hm", "huh", "hum"),
    *("mhum", "uhm", "umm", "uhuh"),
)
# What whisper-normalizer changes beyond Whisper; `'s` is a verb after some words only.
_ADDED = (r"\bkinda\b", r"\bsorta\b", r"\bdunno\b", r"\bcause\b", r"'s\b")
_VERB = (r"\b(it|he|she|what|that|who|here|there|how|when|where|why|this)'s\b", r"\1 is")
_JOINED = {
    **{"et cetera": "etc", "al right": "alright", "all right": "alright", "how ever": "however", "o k": "okay"},
    **{f"{first} {second}": first + second for first, second in (("wi", "fi"), ("hi", "fi"), ("lo", "fi"))},
    **{"sci fi": "scifi", "e mail": "email", "e book": "ebook", "e commerce": "ecommerce", "x ray": "xray"},
    **{"t shirt": "tshirt", "a m": "am", "p m": "pm"},
}
_SPELLINGS = {
    **{"ok": "okay", "kay": "okay", "etcetera": "etc", "mm": "hmm", "flyer": "flier", "snowploughs": "snowplows"},
    **{"archaeology": "archeology", "archaeological": "archeological", "cancellation": "cancelation"},
    **{"cancellations": "cancelations", "pummelled": "pummeled", "pummelling": "pummeling"},
    **{"travelogue": "travelog", "travelogues": "travelogs"},
}
# The other direction of the same, in whisper-normalizer.
_BACKWARDS = ("archeological", "cancelation", "cancelations", "flyer / flier", "travelog", "travelogs")
# Single letters that are words; a row of letters with one of them needs three to be an acronym.
_LETTER_WORDS = ("a", "i")


@cache
def leaderboard_normalizer(language: str) -> Normalizer:
    """The normalizer for texts in the language of this code.

    UserError where the package num2words is missing, which other languages than English need.
    """
    packages = ["whisper-normalizer"] if language == "en" else ["num2words"]
    rule = _english() if language == "en" else _multilingual(language)
    version = ", ".join([RULES, *(f"{package} {metadata.version(package)}" for package in packages)])
    return Normalizer(f"open-asr-{language}", version, rule)


def joined_alike(reference: str, hypothesis: str) -> tuple[str, str]:
    """Two texts with words joined where they differ by spaces alone, as is done for other languages than English."""
    ours, theirs = reference.split(), hypothesis.split()
    left: list[str] = []
    right: list[str] = []
    for kind, i, j, k, l in SequenceMatcher(None, ours, theirs).get_opcodes():  # noqa: E741
        is_same = kind != "equal" and "".join(ours[i:j]) == "".join(theirs[k:l])
        left += ["".join(ours[i:j])] if is_same else ours[i:j]
        right += ["".join(theirs[k:l])] if is_same else theirs[k:l]
    return " ".join(left), " ".join(right)


def acronyms_joined(text: str) -> str:
    """A text in which letters that stand alone, one after another, are one word: `b b c` is `bbc`."""
    words: list[str] = []
    run: list[str] = []
    for word in (*text.split(), ""):
        if len(word) == 1 and word.isalnum():
            run.append(word)
            continue
        least = 3 if any(letter in _LETTER_WORDS for letter in run) else 2
        words += ["".join(run)] if len(run) >= least else run
        run = []
        words.append(word)
    return " ".join(words[:-1])


def _english() -> Callable[[str], str]:
    """Whisper's normalizer with the leaderboard's lists and steps."""
    rules: Any = EnglishTextNormalizer()
    rules.ignore_patterns = rf"\b({'|'.join(_FILLERS)})\b"
    for pattern in _ADDED:
        rules.replacers.pop(pattern, None)
    rules.replacers = {**rules.replacers, _VERB[0]: _VERB[1]}
    spell, numbers = rules.standardize_spellings, rules.standardize_numbers
    mapping = {word: other for word, other in spell.mapping.items() if word not in _BACKWARDS}
    spell.mapping = {**mapping, **_SPELLINGS}

    def joined(text: str) -> str:
        for apart, together in _JOINED.items():
            text = re.sub(rf"\b{apart.replace(' ', chr(92) + 's+')}\b", together, text)
        return str(numbers(text))

    rules.standardize_numbers = joined
    rules.standardize_spellings = lambda text: acronyms_joined(spell(text))
    return lambda text: str(rules(text))


def _multilingual(language: str) -> Callable[[str], str]:
    """Case, brackets, punctuation and symbols go, marks on letters stay, and numbers are written out."""
    try:
        from num2words import num2words
    except ImportError:
        raise missing("num2words") from None

    def written(match: re.Match[str]) -> str:
        try:
            return str(num2words(int(match.group()), lang=language))
        except (NotImplementedError, OverflowError, ValueError):
            return match.group()

    def rule(text: str) -> str:
        text = re.sub(r"[<\[][^>\]]*[>\]]", "", text.lower())
        text = re.sub(r"\(([^)]+?)\)", "", text)
        kept = (" " if unicodedata.category(one)[0] in "MSP" else one for one in unicodedata.normalize("NFKC", text))
        text = re.sub(r"[^\w\s]", "", "".join(kept).lower())
        text = re.sub(r"(\d)\s+(\d{3})\b", r"\1\2", " ".join(text.split()))
        return re.sub(r"\d+", written, text)

    return rule


def missing(package: str) -> UserError:
    """What is said where a package of the extra is not installed."""
    return UserError("--leaderboard", package, 'is not installed; pip install "edge-asr-deploy[leaderboard]"')
