"""Texts that repeat themselves without end: the typical failure of a decoder that lost the audio."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from itertools import pairwise

# A phrase of up to PHRASE words, REPEATS times in a row, WORDS words in all.
PHRASE, REPEATS, WORDS = 30, 5, 12
ENDING = 3
# Tokens that are a loop at least: 40 are 10 s of speech.
LOOP = 40
# Length of a text over that of its zlib-compressed form. openai/whisper decodes again above 2.4, where a second try
# costs little; here a false alarm costs trust, and "It was the best of times, it was the worst of times" reaches 2.42.
COMPRESSION_RATIO = 3.0
# About what is said in one Whisper window: longer texts compress better without repeating anything.
CHARACTERS, AT_LEAST = 500, 100


def is_runaway(text: str) -> bool:
    """True when a phrase is repeated many times in a row, or a stretch of the text compresses as only loops do.

    Emphasis and numbers read out ("no no no", "two two two") are not runaway.
    """
    words = re.findall(r"\w+", text.lower())
    if any(_repeats(words, length) for length in range(1, min(PHRASE, len(words) // REPEATS) + 1)):
        return True
    starts = range(0, max(1, len(text) - CHARACTERS // 2), CHARACTERS // 2)
    return any(_ratio(text[start : start + CHARACTERS]) > COMPRESSION_RATIO for start in starts)


def ends_twice(text: str) -> bool:
    """True when the last words, ENDING at least, are those before them: how a decoder that missed the end goes on."""
    words = re.findall(r"\w+", text.lower())
    return any(words[-length:] == words[-2 * length : -length] for length in range(ENDING, len(words) // 2 + 1))


def without_loop(tokens: Sequence[int]) -> Sequence[int]:
    """Tokens of a decoder that ran into its limit; of a phrase that it repeated until then one is left.

    A phrase of any length that stands REPEATS times in a row at the end, in LOOP tokens or more. Otherwise all of them.
    """
    for length in range(1, len(tokens) // REPEATS + 1):
        again = 0
        while again < len(tokens) - length and tokens[-1 - again] == tokens[-1 - again - length]:
            again += 1
        if again + length >= max(LOOP, REPEATS * length):
            return tokens[: len(tokens) - again]
    return tokens


def _repeats(words: list[str], length: int) -> bool:
    """True when some phrase of `length` words stands at least REPEATS times in a row."""
    # A phrase repeats where words equal those one phrase later; breaks are where they do not.
    breaks = [index for index in range(len(words) - length) if words[index] != words[index + length]]
    longest = max(end - start - 1 for start, end in pairwise([-1, *breaks, len(words) - length]))
    total = longest + length
    return total >= max(WORDS, REPEATS * length)


def _ratio(text: str) -> float:
    if len(text) < AT_LEAST:
        return 0.0
    # One byte per character in every script: UTF-8 alone would halve the size of Cyrillic or Hindi.
    ranks = {character: rank % 256 for rank, character in enumerate(sorted(set(text)))}
    content = bytes(ranks[character] for character in text)
    return len(content) / len(zlib.compress(content))
