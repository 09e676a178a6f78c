"""Shows which words went wrong: the utterances with the most additional errors, aligned word by word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jiwer

from edge_asr_deploy.corpora.normalize import Normalizer
from edge_asr_deploy.harness.evaluation.result import Result, Row
from edge_asr_deploy.harness.evaluation.wer import counted

Kind = Literal["equal", "substitute", "delete", "insert"]


@dataclass(frozen=True)
class Span:
    """Consecutive words of one kind, in the reference and in the hypothesis; one of the two may be empty."""

    kind: Kind
    reference: str
    hypothesis: str


@dataclass(frozen=True)
class AlignedRow:
    """One bundle's transcript of an utterance, aligned with the reference."""

    bundle: str
    row: Row
    spans: list[Span]


@dataclass(frozen=True)
class Difference:
    """An utterance as the bundle and as its baseline transcribed it (None: not measured)."""

    bundle: AlignedRow
    baseline: AlignedRow | None

    @property
    def more(self) -> int:
        """How many more errors the bundle makes than the baseline."""
        return self.bundle.row.errors - (self.baseline.row.errors if self.baseline else 0)


def align(reference: str, hypothesis: str) -> list[Span]:
    """Align two normalized texts with jiwer. If the reference is empty, all words are insertions."""
    reference, hypothesis = counted(reference, hypothesis)
    reference_words, hypothesis_words = reference.split(), hypothesis.split()
    if not reference_words:
        return [Span("insert", "", hypothesis)] if hypothesis_words else []
    chunks = jiwer.process_words(reference, hypothesis).alignments[0]
    return [
        Span(
            chunk.type,
            " ".join(reference_words[chunk.ref_start_idx : chunk.ref_end_idx]),
            " ".join(hypothesis_words[chunk.hyp_start_idx : chunk.hyp_end_idx]),
        )
        for chunk in chunks
    ]


def worst(result: Result, normalizer: Normalizer, number: int) -> list[Difference]:
    """At most `number` utterances on which the bundle makes more errors than its baseline, the worst first.

    Without a baseline, these are the utterances with the most errors.
    """
    baseline_rows = result.baseline.accuracy.rows if result.baseline else []
    baseline = {(row.source, row.id): row for row in baseline_rows}

    def more(row: Row) -> int:
        other = baseline.get((row.source, row.id))
        return row.errors - (other.errors if other else 0)

    rows = [row for row in result.bundle.accuracy.rows if more(row) > 0]
    rows.sort(key=lambda row: (-more(row), -row.errors, row.source, row.id))
    differences = []
    for row in rows[:number]:
        other = baseline.get((row.source, row.id))
        ours = _aligned(result.bundle.name, row, normalizer)
        theirs = _aligned(result.baseline.name, other, normalizer) if result.baseline and other else None
        differences.append(Difference(ours, theirs))
    return differences


def _aligned(bundle: str, row: Row, normalizer: Normalizer) -> AlignedRow:
    return AlignedRow(bundle, row, align(normalizer(row.reference), normalizer(row.hypothesis)))
