"""What a script means for counting errors: which marks belong to its letters, and whether spaces part its words."""

from __future__ import annotations

from collections.abc import Iterable

import regex

# Written without spaces between words, by Unicode's names of scripts.
_UNSPACED = (
    *("Han", "Hiragana", "Katakana", "Bopomofo", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan"),
    *("Javanese", "Balinese", "Tai_Tham", "Tai_Le", "New_Tai_Lue", "Tai_Viet"),
)
# Their marks are reading aids (Arabic and Hebrew vowel points, Russian stress) that one text has and the next lacks.
_POINTED = ("Arabic", "Hebrew", "Syriac", "Cyrillic", "Greek", "Armenian", "Georgian")

_LETTER = regex.compile(r"\p{L}")
_LATIN = regex.compile(r"\p{Latin}")
# What a reader takes for one character, where it begins with a letter or digit of such a script.
_CHARACTER = regex.compile(
    r"(?![\p{P}\p{S}\p{Z}\p{M}])(?=[" + "".join(rf"\p{{scx={script}}}" for script in _UNSPACED) + r"])\X"
)
_POINTS = regex.compile("(?<=[" + "".join(rf"\p{{{script}}}" for script in _POINTED) + r"]\p{M}*)\p{M}")
_OTHER_LETTER = r"[\p{L}--[\p{Latin}\p{Common}]]"
# Marks of Latin letters, of digits and of nothing.
_LOOSE = regex.compile(rf"(?V1)(?<!{_OTHER_LETTER}\p{{M}}*)\p{{M}}")
# Joiners, directions and choices of a glyph: they change how a text looks, not what it says.
_INVISIBLE = regex.compile(
    rf"(?V1)(?<={_OTHER_LETTER}\p{{M}}*)"
    r"[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufe00-\ufe0f\U000e0100-\U000e01ef]+"
)


def with_vowel_signs(text: str) -> str:
    """A text whose marks are all kept (Unicode's M), with those alone that are part of a letter.

    Vowel signs of Devanagari, Thai or Tamil stay: without them other words are written. Points of Arabic and Hebrew and
    Russian stress go. Marks that are left on Latin letters become spaces, as in Whisper's own normalizer.
    """
    return str(_LOOSE.sub(" ", _POINTS.sub("", _INVISIBLE.sub("", text))))


def characters(text: str) -> str:
    """A text with a space between what a reader takes for one character (Unicode's grapheme clusters)."""
    return " ".join(" ".join(regex.findall(r"\X", text)).split())


def words_apart(text: str) -> str:
    """A text in which every character of a script without spaces stands alone, as if it were a word."""
    return " ".join(_CHARACTER.sub(r" \g<0> ", text).split()) if _CHARACTER.search(text) else text


def holds_unspaced(text: str) -> bool:
    """True when some of it is in a script without spaces."""
    return _CHARACTER.search(text) is not None


def is_mostly_unspaced(texts: Iterable[str]) -> bool:
    """True when more than half of the letters are of scripts without spaces."""
    letters, unspaced = 0, 0
    for text in texts:
        letters += len(_LETTER.findall(text))
        unspaced += len(_CHARACTER.findall(text))
    return 2 * unspaced > letters


def is_mostly_latin(texts: Iterable[str]) -> bool:
    """True when at least half of the letters are Latin, and when there are none."""
    letters, latin = 0, 0
    for text in texts:
        letters += len(_LETTER.findall(text))
        latin += len(_LATIN.findall(text))
    return 2 * latin >= letters
