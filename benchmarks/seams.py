"""Long recordings, float beside quantized: `python -m benchmarks.seams FLOAT BUNDLE... --data FOLDER --store FOLDER`.

The recordings are those of `more/long_librispeech`, and the utterances of LibriSpeech test-clean and test-other joined
to recordings of about five minutes, with pauses of 0.2 to 3 s of faint noise (fixed seed); the two share some speakers.
Prints Markdown: word error rates of whole recordings and the rise over the first bundle (intervals by utterance),
errors by kind, and words that are gone within a second of where one window ends or the next begins. A word's time is
that of the first bundle's word; words that it has not lie between their neighbours. `--store` keeps what was heard.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import jiwer
import numpy as np
from numpy.typing import NDArray

from benchmarks.heard import KINDS, RATE, Errors, Heard, Listener, Samples, arguments, kinds, rise, rows_of, table
from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.corpora.normalize import normalizer_for
from edge_asr_deploy.harness.evaluation.wer import WordCounts, pooled
from edge_asr_deploy.runtime.audio.reading import read_audio

LONG, JOINED = "long_librispeech", "joined"
SETS = ("librispeech_test_clean", "librispeech_test_other")
SECONDS, PAUSES = 300.0, (0.2, 3.0)
# Faint noise, as of a quiet room.
QUIET = 10 ** (-57 / 20)
NEAR = 1.0

HAS, WRONG, GONE = 0, 1, 2
Times = NDArray[np.float64]
State = NDArray[np.int64]


@dataclass(frozen=True)
class Recording:
    """Samples (n,) of a set, and the normalized texts of the utterances in them."""

    kind: str
    samples: Samples
    texts: list[str]

    @property
    def words(self) -> list[str]:
        """All words of the reference."""
        return " ".join(self.texts).split()


@dataclass(frozen=True)
class Judged:
    """What one bundle made of a recording: errors as a whole and by utterance, and of each word of the reference."""

    whole: Errors
    utterances: list[Errors]
    state: State


def recordings(data: Path) -> Iterator[Recording]:
    """Every recording."""
    normalizer, manifest = normalizer_for("en"), data / "more" / f"{LONG}.jsonl"
    for row in rows_of(manifest):
        texts = [normalizer(text) for _, _, text in row["segments"]]
        yield Recording(LONG, read_audio(manifest.parent / row["audio"]), texts)
    generator = np.random.default_rng(5)
    for name in SETS:
        parts: list[Samples] = []
        texts, length = [], 0
        utterances = read_manifest(data / f"{name}.jsonl")
        for index, one in enumerate(utterances):
            pause = QUIET * generator.standard_normal(int(RATE * generator.uniform(*PAUSES)))
            parts += [one.samples(), pause.astype(np.float32)]
            texts.append(normalizer(one.text or ""))
            length += len(parts[-2]) + len(parts[-1])
            if length >= SECONDS * RATE or index == len(utterances) - 1:
                yield Recording(JOINED, np.concatenate(parts), texts)
                parts, texts, length = [], [], 0


def judged(recording: Recording, heard: Heard) -> Judged:
    """Align a text with its recording's reference."""
    said = normalizer_for("en")(heard.text)
    words, ends = recording.words, np.cumsum([len(text.split()) for text in recording.texts])
    state = np.full(len(words), HAS)
    counts = [WordCounts(words=len(text.split())) for text in recording.texts]
    for chunk in jiwer.process_words(" ".join(words), said).alignments[0] if said else []:
        start, end = chunk.ref_start_idx, chunk.ref_end_idx
        if chunk.type == "insert":
            place = bisect_right(ends, max(0, start - 1))
            counts[place] += WordCounts(insertions=chunk.hyp_end_idx - chunk.hyp_start_idx)
        elif chunk.type != "equal":
            state[start:end] = GONE if chunk.type == "delete" else WRONG
    if not said:
        state[:] = GONE
    for place, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        part = state[start:end]
        counts[place] += WordCounts(int(np.sum(part == WRONG)), int(np.sum(part == GONE)))
    whole = Errors.of(" ".join(words), said, heard)
    return Judged(whole, [Errors(one) for one in counts], state)


def reference_times(words: Sequence[str], heard: Heard) -> Times:
    """When the words of a reference were said, in seconds: (words,). `heard` has its words' times."""
    normalizer = normalizer_for("en")
    timed = [((start + end) / 2, part) for start, end, text in heard.words for part in normalizer(text).split()]
    # The text as a whole has other numbers and contractions than its words one by one.
    said = normalizer(heard.text).split()
    of_said = np.full(len(said), np.nan)
    matcher = SequenceMatcher(None, said, [part for _, part in timed], autojunk=False)
    for mine, other, size in matcher.get_matching_blocks():
        of_said[mine : mine + size] = [time for time, _ in timed[other : other + size]]
    of_said = filled(of_said)
    times = np.full(len(words), np.nan)
    for chunk in jiwer.process_words(" ".join(words), " ".join(said)).alignments[0]:
        if chunk.type in ("equal", "substitute"):
            times[chunk.ref_start_idx : chunk.ref_end_idx] = of_said[chunk.hyp_start_idx : chunk.hyp_end_idx]
    return filled(times)


def filled(times: Times) -> Times:
    """Times with NaN between neighbours evenly filled in."""
    known = ~np.isnan(times)
    places = np.arange(len(times))
    return np.interp(places, places[known], times[known]) if known.any() else np.zeros(len(times))


def seams(listener: Listener, samples: Samples) -> Times:
    """Where windows end and the next ones begin, in seconds."""
    windows = listener.windows(samples)
    ends = [window.time((len(window.samples) - 1) / RATE) for window in windows[:-1]]
    return np.array(sorted([*ends, *(window.time(0.0) for window in windows[1:])]))


def is_near(times: Times, places: Times) -> NDArray[np.bool_]:
    """Which times are at most NEAR seconds from one of the places."""
    if not len(places):
        return np.zeros(len(times), bool)
    apart: Times = np.abs(times[:, None] - places[None]).min(axis=1)
    return apart <= NEAR


def lost(name: str, state: State, before: State, near: NDArray[np.bool_]) -> list[str]:
    """A row: the words that are gone near seams and elsewhere, by who lacks them; `before` is the first bundle's."""
    row = [name]
    for place in (near, ~near):
        mine, other = state[place] == GONE, before[place] == GONE
        alone, spared, both = np.sum(mine & ~other), np.sum(other & ~mine), np.sum(mine & other)
        unlucky = np.sum((state[place] != HAS) & (before[place] == HAS))
        lucky = np.sum((state[place] == HAS) & (before[place] != HAS))
        row += [str(both), f"{alone} / {spared}", f"{unlucky} / {lucky}"]
    return row


def main() -> None:
    """Print the tables of the bundles named on the command line."""
    given = arguments(__doc__).parse_args()
    found = list(recordings(given.data))
    hours = sum(len(one.samples) for one in found) / RATE / 3600
    results: dict[str, list[Judged]] = {}
    for index, bundle in enumerate(given.bundles):
        listener = Listener(bundle, given.store)
        results[listener.name] = [judged(one, listener.hear(one.samples)) for one in found]
        if not index:
            places = [seams(listener, one.samples) for one in found]
            times = [reference_times(one.words, listener.hear(one.samples, times=True)) for one in found]
        print(f"{listener.name}: heard", file=sys.stderr, flush=True)
    near = np.concatenate([is_near(*pair) for pair in zip(times, places, strict=True)])
    print(
        f"{hours * 60:.1f} minutes, {len(found)} recordings, {sum(map(len, places)) // 2} seams, "
        f"{len(near)} words, {near.sum()} of them near a seam\n\n{_report(found, results, hours)}\n"
    )
    (base, first), *others = results.items()
    before = np.concatenate([one.state for one in first])
    rows = [lost(name, np.concatenate([one.state for one in judged]), before, near) for name, judged in others]
    what = ("deleted by both", f"deleted by it alone / {base} alone", f"not right in it alone / {base} alone")
    print(table(["bundle", *(f"{place}: {one}" for place in ("near seams", "elsewhere") for one in what)], rows))


def _report(found: Sequence[Recording], results: dict[str, list[Judged]], hours: float) -> str:
    (base, first), *others = results.items()
    rows = []
    for kind in (LONG, JOINED, "all, pooled"):
        chosen = [i for i, one in enumerate(found) if kind in (one.kind, "all, pooled")]
        before = [errors for i in chosen for errors in first[i].utterances]
        rises = [rise([errors for i in chosen for errors in judged[i].utterances], before) for _, judged in others]
        rows.append([kind, f"{100 * pooled(one.counts for one in before).wer:.2f}", *rises])
    headings = ["recordings", f"{base} WER %", *(f"{name} rise" for name, _ in others)]
    by_kind = table(KINDS, [kinds(name, [one.whole for one in judged], hours) for name, judged in results.items()])
    return f"{table(headings, rows)}\n\n{by_kind}"


if __name__ == "__main__":
    main()
