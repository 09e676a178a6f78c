"""Detects texts that repeat themselves without end: the typical failure of a decoder that lost the audio."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from itertools import pairwise

# A text is runaway if a phrase of at most PHRASE words occurs REPEATS times in a row, with WORDS words in total.
PHRASE, REPEATS, WORDS = 30, 5, 12
# The fewest words at the end of a text whose repetition counts.
ENDING = 3
# A loop has at least this many tokens: 40 are 10 s of speech.
LOOP = 40
# Tokens that are repeated before a shortened window is given up, and the longest phrase that is looked for.
SIGN, LONGEST = 12, 40
# The length of a text divided by that of its zlib-compressed form. openai/whisper decodes again above 2.4, because a
# second try costs little. Here a false alarm would mislead users, and real text ("It was the best of times, it was the
# worst of times") reaches 2.42.
COMPRESSION_RATIO = 3.0
# About the length of one Whisper window's text. Longer texts compress better even without repetitions.
CHARACTERS, AT_LEAST = 500, 100


def is_runaway(text: str) -> bool:
    """True when a phrase is repeated many times in a row, or a part of the text compresses as well as only loops do.

    Emphasis and spoken numbers ("no no no", "two two two") do not count.
    """
    words = re.findall(r"\w+", text.lower())
    if any(_repeats(words, length) for length in range(1, min(PHRASE, len(words) // REPEATS) + 1)):
        return True
    starts = range(0, max(1, len(text) - CHARACTERS // 2), CHARACTERS // 2)
    return any(_ratio(text[start : start + CHARACTERS]) > COMPRESSION_RATIO for start in starts)


def ends_twice(text: str) -> bool:
    """True when the last words (at least ENDING) repeat the words before them, as if the decoder missed the end."""
    words = re.findall(r"\w+", text.lower())
    return any(words[-length:] == words[-2 * length : -length] for length in range(ENDING, len(words) // 2 + 1))


def begins_loop(tokens: Sequence[int]) -> bool:
    """True when the last SIGN tokens repeat those of one phrase before them: at the latest SIGN tokens into a loop."""
    last = tokens[-SIGN:]
    lengths = range(1, min(LONGEST, len(tokens) - SIGN) + 1)
    return any(last == tokens[-SIGN - length : -length] for length in lengths if tokens[-1 - length] == last[-1])


def without_loop(tokens: Sequence[int]) -> Sequence[int]:
    """The tokens of a decoder that reached its limit, with a phrase that it repeated until the end only once.

    The phrase may have any length, but must occur REPEATS times in a row and fill at least LOOP tokens. If there is no
    such phrase, all tokens are returned.
    """
    for length in range(1, len(tokens) // REPEATS + 1):
        repeated = 0
        while repeated < len(tokens) - length and tokens[-1 - repeated] == tokens[-1 - repeated - length]:
            repeated += 1
        if repeated + length >= max(LOOP, REPEATS * length):
            return tokens[: len(tokens) - repeated]
    return tokens


def _repeats(words: list[str], length: int) -> bool:
    """True when some phrase of `length` words occurs at least REPEATS times in a row."""
    # Within a repetition each word equals the word one phrase later. `breaks` are the indices where it does not.
    breaks = [index for index in range(len(words) - length) if words[index] != words[index + length]]
    longest = max(end - start - 1 for start, end in pairwise([-1, *breaks, len(words) - length]))
    total = longest + length
    return total >= max(WORDS, REPEATS * length)


def _ratio(text: str) -> float:
    if len(text) < AT_LEAST:
        return 0.0
    # One byte per character in every script, because in UTF-8 Cyrillic or Hindi would compress twice as well.
    ranks = {character: rank % 256 for rank, character in enumerate(sorted(set(text)))}
    content = bytes(ranks[character] for character in text)
    return len(content) / len(zlib.compress(content))
