"""Counts the word errors of one bundle, and compares two bundles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from edge_asr_deploy.corpora.normalize import Normalizer
from edge_asr_deploy.harness.evaluation.bootstrap import difference_interval, wer_interval
from edge_asr_deploy.harness.evaluation.result import (
    Accuracy,
    Comparison,
    Measured,
    Row,
    Speed,
    SpeedRatios,
    WordErrors,
)
from edge_asr_deploy.harness.evaluation.speech import Item
from edge_asr_deploy.harness.evaluation.transcripts import Text
from edge_asr_deploy.harness.evaluation.wer import WordCounts, count, pooled
from edge_asr_deploy.runtime.decoding.loops import is_runaway


def score(items: Sequence[Item], texts: Sequence[Text], normalizer: Normalizer, seed: int) -> Accuracy:
    """Compare texts with references: word errors over all utterances and by corpus, with 95 % bootstrap intervals."""
    rows = [_row(item, text, normalizer) for item, text in zip(items, texts, strict=True)]
    by_corpus: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_corpus[row.source].append(row)
    errors = {source: _word_errors(corpus_rows, seed) for source, corpus_rows in by_corpus.items()}
    return Accuracy(
        rate=normalizer.rate,
        pooled=_word_errors(rows, seed),
        by_corpus=errors,
        mean_of_corpora=fmean(corpus.wer for corpus in errors.values()) if len(errors) > 1 else None,
        runaway=sum(row.runaway for row in rows),
        empty=sum(row.empty for row in rows),
        hit_length_cap=sum(row.hit_length_cap for row in rows),
        fallbacks=sum(row.fallbacks for row in rows),
        rows=rows,
    )


def compare(bundle: Measured, baseline: Measured, seed: int) -> Comparison:
    """Compare a bundle with its baseline, utterance by utterance. Both were measured on the same items in one run."""
    ours, theirs = bundle.accuracy.rows, baseline.accuracy.rows
    pairs = list(zip(ours, theirs, strict=True))
    return Comparison(
        wer_difference=bundle.accuracy.pooled.wer - baseline.accuracy.pooled.wer,
        interval=difference_interval(
            [row.errors for row in ours], [row.errors for row in theirs], [row.words for row in ours], seed=seed
        ),
        no_worse_share=sum(mine.errors <= other.errors for mine, other in pairs) / len(pairs),
        same_text_share=sum(mine.hypothesis == other.hypothesis for mine, other in pairs) / len(pairs),
        size_ratio=bundle.size.onnx / baseline.size.onnx,
        speed=speed_ratios(bundle.speed, baseline.speed) if bundle.speed and baseline.speed else None,
    )


def speed_ratios(ours: Speed, theirs: Speed) -> SpeedRatios:
    """Speed and memory of one bundle, divided by those of another bundle from the same run."""
    decoded, reference = ours.tokens_per_second, theirs.tokens_per_second
    return SpeedRatios(
        load=ours.load_seconds / theirs.load_seconds,
        rtf=ours.rtf / theirs.rtf,
        tokens_per_second=decoded / reference if decoded and reference else None,
        first_token=ours.first_token_ms.p50 / theirs.first_token_ms.p50,
        encoder=ours.encoder_ms.p50 / theirs.encoder_ms.p50,
        peak_rss=ours.peak_rss / theirs.peak_rss,
    )


def _row(item: Item, text: Text, normalizer: Normalizer) -> Row:
    hypothesis = normalizer(text.text)
    counts = count(item.reference, hypothesis)
    return Row(
        id=item.utterance.id,
        source=item.utterance.source,
        seconds=item.seconds,
        reference=item.utterance.text or "",
        hypothesis=text.text,
        substitutions=counts.substitutions,
        deletions=counts.deletions,
        insertions=counts.insertions,
        words=counts.words,
        tokens=text.tokens,
        windows=text.windows,
        runaway=text.loops > 0 or is_runaway(text.text),
        empty=not hypothesis,
        hit_length_cap=text.hit_length_cap,
        fallbacks=text.fallbacks,
    )


def _word_errors(rows: Sequence[Row], seed: int) -> WordErrors:
    return word_errors([WordCounts(row.substitutions, row.deletions, row.insertions, row.words) for row in rows], seed)


def word_errors(counts: Sequence[WordCounts], seed: int) -> WordErrors:
    """The pooled error rate of utterances with these counts, with its bootstrap interval."""
    total = pooled(counts)
    return WordErrors(
        wer=total.wer,
        interval=wer_interval([one.errors for one in counts], [one.words for one in counts], seed=seed),
        substitutions=total.substitutions,
        deletions=total.deletions,
        insertions=total.insertions,
        words=total.words,
        utterances=len(counts),
    )
