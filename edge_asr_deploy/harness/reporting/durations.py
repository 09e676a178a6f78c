"""Word error rates by length of the clip, because short commands and long dictation fail in different ways."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from edge_asr_deploy.harness.evaluation.bootstrap import wer_interval
from edge_asr_deploy.harness.evaluation.result import Row, WordErrors
from edge_asr_deploy.harness.evaluation.wer import WordCounts, pooled

# Seconds; 30 is Whisper's window.
EDGES = (0.0, 2.0, 5.0, 10.0, 20.0, 30.0)
BUCKETS = {f"{low:g} to {high:g} s": (low, high) for low, high in pairwise(EDGES)}
BUCKETS[f"{EDGES[-1]:g} s and more"] = (EDGES[-1], float("inf"))
RESAMPLES = 2_000


def by_duration(rows: Sequence[Row], seed: int = 0) -> dict[str, WordErrors]:
    """Pooled word errors with 95 % bootstrap intervals for each of `BUCKETS` that has clips."""
    errors = {}
    for name, (low, high) in BUCKETS.items():
        members = [row for row in rows if row.words and low <= row.seconds < high]
        if members:
            errors[name] = _word_errors(members, seed)
    return errors


def _word_errors(rows: Sequence[Row], seed: int) -> WordErrors:
    total = pooled(WordCounts(row.substitutions, row.deletions, row.insertions, row.words) for row in rows)
    errors, words = [row.errors for row in rows], [row.words for row in rows]
    return WordErrors(
        wer=total.wer,
        interval=wer_interval(errors, words, resamples=RESAMPLES, seed=seed),
        substitutions=total.substitutions,
        deletions=total.deletions,
        insertions=total.insertions,
        words=total.words,
        utterances=len(rows),
    )
