"""A second score of a result, counted as the Open ASR leaderboard counts since June 2026.

Its text rules (`corpora.leaderboard`), and kaldialign's alignment, in which words that are written together in one text
and apart in the other are no errors ("white paper", "whitepaper"). It needs only the texts that a result holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from statistics import fmean

from edge_asr_deploy.corpora.leaderboard import joined_alike, leaderboard_normalizer, missing
from edge_asr_deploy.corpora.normalize import Normalizer
from edge_asr_deploy.families.languages import language_code
from edge_asr_deploy.harness.evaluation.bootstrap import difference_interval
from edge_asr_deploy.harness.evaluation.result import Difference, Leaderboard, Measured, Result, Row
from edge_asr_deploy.harness.evaluation.score import word_errors
from edge_asr_deploy.harness.evaluation.wer import WordCounts

KALDIALIGN = "kaldialign"


def require_scorer(language: str) -> Normalizer:
    """What texts in this language are normalized with.

    UserError, one line with the command that installs it, where a package of the extra is missing.
    """
    if find_spec(KALDIALIGN) is None:
        raise missing(KALDIALIGN)
    return leaderboard_normalizer(language_code(language))


def with_leaderboard(result: Result) -> Result:
    """The result with the second score of bundle, baseline and their difference.

    Results that count characters stay as they are, with a note: the leaderboard has no such rate. UserError where a
    package of the extra is missing.
    """
    normalizer = require_scorer(result.settings.language)
    if result.rate == "CER":
        note = "no second score: the leaderboard counts words, and these texts are counted by characters"
        return result.model_copy(update={"notes": [*result.notes, note]})
    seed = result.settings.seed
    ours = [count(row.reference, row.hypothesis, normalizer) for row in result.bundle.accuracy.rows]
    bundle = _scored(result.bundle, ours, normalizer, seed)
    if result.baseline is None or result.comparison is None:
        return result.model_copy(update={"bundle": bundle})
    theirs = [count(row.reference, row.hypothesis, normalizer) for row in result.baseline.accuracy.rows]
    baseline = _scored(result.baseline, theirs, normalizer, seed)
    comparison = result.comparison.model_copy(update={"leaderboard": _difference(ours, theirs, seed)})
    return result.model_copy(update={"bundle": bundle, "baseline": baseline, "comparison": comparison})


def count(reference: str, hypothesis: str, normalizer: Normalizer) -> WordCounts:
    """The errors between two texts before normalization. No words where the reference normalizes to nothing."""
    from kaldialign import edit_distance

    said, heard = normalizer(reference), normalizer(hypothesis)
    if not said:
        return WordCounts()
    if normalizer.name != leaderboard_normalizer("en").name:
        said, heard = joined_alike(said, heard)
    found = edit_distance(said.split(), heard.split(), merge_compounds=True)
    return WordCounts(found["sub"], found["del"], found["ins"], found["ref_len"])


def _scored(measured: Measured, counts: Sequence[WordCounts], normalizer: Normalizer, seed: int) -> Measured:
    by_corpus: dict[str, list[WordCounts]] = defaultdict(list)
    rows: Sequence[Row] = measured.accuracy.rows
    for row, one in zip(rows, counts, strict=True):
        # References without words are not scored.
        if one.words:
            by_corpus[row.source].append(one)
    errors = {source: word_errors(members, seed) for source, members in by_corpus.items()}
    pooled = word_errors([one for one in counts if one.words], seed) if errors else None
    score = Leaderboard(
        name=normalizer.name,
        version=f"{normalizer.version}, {KALDIALIGN} {metadata.version(KALDIALIGN)} with compounds merged",
        pooled=pooled,
        by_corpus=errors,
        mean_of_corpora=fmean(one.wer for one in errors.values()) if len(errors) > 1 else None,
    )
    return measured.model_copy(update={"accuracy": measured.accuracy.model_copy(update={"leaderboard": score})})


def _difference(ours: Sequence[WordCounts], theirs: Sequence[WordCounts], seed: int) -> Difference | None:
    """The difference on the utterances that both are scored on, by as many words each."""
    pairs = [(mine, other) for mine, other in zip(ours, theirs, strict=True) if mine.words and other.words]
    if not pairs:
        return None
    words = [other.words for _, other in pairs]
    errors, baseline = [mine.errors for mine, _ in pairs], [other.errors for _, other in pairs]
    total = sum(words)
    return Difference(
        wer_difference=(sum(errors) - sum(baseline)) / total,
        interval=difference_interval(errors, baseline, words, seed=seed),
    )
