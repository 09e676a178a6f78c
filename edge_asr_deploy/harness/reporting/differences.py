"""Where words went wrong: the utterances that suffered most, aligned word by word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jiwer

from edge_asr_deploy.corpora.normalize import Normalizer
from edge_asr_deploy.harness.evaluation.result import Result, Row

Kind = Literal["equal", "substitute", "delete", "insert"]


@dataclass(frozen=True)
class Span:
    """Neighbouring words of one kind: what was said and what was heard; one of them may be empty."""

    kind: Kind
    reference: str
    hypothesis: str


@dataclass(frozen=True)
class Heard:
    """One bundle's row of an utterance, aligned with the reference."""

    bundle: str
    row: Row
    spans: list[Span]


@dataclass(frozen=True)
class Difference:
    """An utterance as the baseline heard it (None: not measured) and as the bundle did."""

    bundle: Heard
    baseline: Heard | None

    @property
    def more(self) -> int:
        """Errors of the bundle that the baseline does not make."""
        return self.bundle.row.errors - (self.baseline.row.errors if self.baseline else 0)


def align(reference: str, hypothesis: str) -> list[Span]:
    """jiwer's alignment of two normalized texts, in order. An empty reference gives insertions alone."""
    said, heard = reference.split(), hypothesis.split()
    if not said:
        return [Span("insert", "", hypothesis)] if heard else []
    chunks = jiwer.process_words(reference, hypothesis).alignments[0]
    return [
        Span(
            chunk.type,
            " ".join(said[chunk.ref_start_idx : chunk.ref_end_idx]),
            " ".join(heard[chunk.hyp_start_idx : chunk.hyp_end_idx]),
        )
        for chunk in chunks
    ]


def worst(result: Result, normalizer: Normalizer, number: int) -> list[Difference]:
    """At most `number` utterances where the bundle makes the most errors beyond its baseline's, the worst first.

    Without a baseline: the most errors. An utterance on which the bundle does no worse is never among them.
    """
    found = result.baseline.accuracy.rows if result.baseline else []
    baseline = {(row.source, row.id): row for row in found}

    def more(row: Row) -> int:
        other = baseline.get((row.source, row.id))
        return row.errors - (other.errors if other else 0)

    rows = [row for row in result.bundle.accuracy.rows if more(row) > 0]
    rows.sort(key=lambda row: (-more(row), -row.errors, row.source, row.id))
    differences = []
    for row in rows[:number]:
        other = baseline.get((row.source, row.id))
        ours = _heard(result.bundle.name, row, normalizer)
        theirs = _heard(result.baseline.name, other, normalizer) if result.baseline and other else None
        differences.append(Difference(ours, theirs))
    return differences


def _heard(bundle: str, row: Row, normalizer: Normalizer) -> Heard:
    return Heard(bundle, row, align(normalizer(row.reference), normalizer(row.hypothesis)))
