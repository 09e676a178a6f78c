"""Word and character error rate (WER, CER): counted by jiwer, pooled as errors divided by words of the references.

Words are what stands between spaces: a normalizer that counts characters puts spaces between them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import jiwer

from edge_asr_deploy.corpora.scripts import holds_unspaced, words_apart


@dataclass(frozen=True)
class WordCounts:
    """Substitutions, deletions and insertions against `words` reference words. Counts of utterances can be added."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    words: int = 0

    def __add__(self, other: WordCounts) -> WordCounts:
        return WordCounts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.words + other.words,
        )

    @property
    def errors(self) -> int:
        """Word errors of all three kinds."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> float:
        """Word error rate as a fraction: (S + D + I) / reference words. It may exceed 1."""
        return self.errors / self.words


def count(reference: str, hypothesis: str) -> WordCounts:
    """Count the errors of one hypothesis. Both texts are already normalized. ValueError when the reference is empty.

    Where the reference holds a script without spaces, each of its characters is a word, in both texts.
    """
    if not reference:
        raise ValueError("the reference is empty: there is nothing to count errors against")
    alignment = jiwer.process_words(*counted(reference, hypothesis))
    words = alignment.hits + alignment.substitutions + alignment.deletions
    return WordCounts(alignment.substitutions, alignment.deletions, alignment.insertions, words)


def counted(reference: str, hypothesis: str) -> tuple[str, str]:
    """The two texts with a space between all that is counted. Without such a script they are as they were."""
    return (words_apart(reference), words_apart(hypothesis)) if holds_unspaced(reference) else (reference, hypothesis)


def pooled(counts: Iterable[WordCounts]) -> WordCounts:
    """The sum over utterances. Long utterances weigh more, as in all published corpus WERs."""
    return sum(counts, WordCounts())
