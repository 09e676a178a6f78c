"""What bundles hear, kept in a folder: a table over hours of speech is made anew in seconds, and goes on where it was.

The key of an entry covers what can change a text: the bundle's files, the samples, the language, and the runtime.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_asr_deploy import Transcriber
from edge_asr_deploy.bundle.manifest import bundle_hash, read_manifest
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.harness.evaluation.bootstrap import difference_interval
from edge_asr_deploy.harness.evaluation.wer import WordCounts, pooled
from edge_asr_deploy.harness.machine.environment import cpu_name
from edge_asr_deploy.harness.reporting.differences import align
from edge_asr_deploy.runtime.audio.windows import Clip
from edge_asr_deploy.runtime.decoding.loops import is_runaway
from edge_asr_deploy.sources import source_hash

RATE = 16_000
# Deletions are counted by how many words in a row are gone.
RUNS = ((1, 1), (2, 3), (4, 9), (10, None))
# The row of all sets together.
POOLED = "all, pooled"

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Heard:
    """A text, the language that it was heard in, how often it looped, and (start, end, text) of its words if asked."""

    text: str
    language: str | None = None
    loops: int = 0
    words: tuple[tuple[float, float, str], ...] = ()

    @property
    def loops_at_all(self) -> bool:
        """The text repeats itself without end, or did so until the repetitions were cut."""
        return self.loops > 0 or is_runaway(self.text)


class Listener:
    """A bundle as it is deployed (short windows, voice activity detection) on one thread, with a memory in a folder."""

    def __init__(self, bundle: Path, store: Path) -> None:
        self.name, self._bundle = bundle.name, bundle
        manifest = read_manifest(bundle)
        self.family, self._hash = manifest.family, bundle_hash(manifest)
        self._path = store / f"{self.name}-{self._hash[:12]}.jsonl"
        self._known: dict[str, Heard] = {}
        # A line that was cut off when a run was killed is heard again.
        for line in self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else ():
            try:
                row = json.loads(line)
                words = tuple((start, end, text) for start, end, text in row["words"])
                self._known[row["key"]] = Heard(row["text"], row["language"], row["loops"], words)
            except (ValueError, KeyError, TypeError):
                continue

    @cached_property
    def transcriber(self) -> Transcriber:
        """The opened bundle; it is not opened for what is in the folder."""
        return Transcriber.open(self._bundle, threads=1)

    def hear(self, samples: Samples, language: str | None = None, times: bool = False) -> Heard:
        """The text of samples (n,) at 16 kHz, with `times` also of its words. Without a language it is detected."""
        parts = (self._hash, hashlib.sha256(samples.tobytes()).hexdigest(), language, times, *_runtime())
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        if key not in self._known:
            said = self.transcriber.transcribe(samples, language=language, timestamps="word" if times else None)
            words = tuple((word.start, word.end, word.text) for one in said.segments for word in one.words)
            self._known[key] = Heard(said.text, said.language, said.loops, words)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # A line cut off by a kill must not swallow this one.
            with self._path.open("a", encoding="utf-8") as file:
                file.write("\n" + json.dumps({"key": key, **asdict(self._known[key])}, ensure_ascii=False))
        return self._known[key]

    def windows(self, samples: Samples) -> list[Clip]:
        """The windows that a recording is decoded in."""
        return self.transcriber._clips(samples)


@cache
def _runtime() -> tuple[str, str, str]:
    return onnxruntime.__version__, cpu_name(), source_hash(["runtime.transcriber"])


@dataclass(frozen=True)
class Errors:
    """Word errors against a normalized reference, the lengths of runs of deleted words, and whether the text loops."""

    counts: WordCounts
    deleted: tuple[int, ...] = ()
    looped: int = 0
    empty: int = 0

    @classmethod
    def of(cls, reference: str, hypothesis: str, heard: Heard) -> Errors:
        """The errors of a normalized text."""
        counts, deleted = WordCounts(), []
        for span in align(reference, hypothesis):
            said, got = len(span.reference.split()), len(span.hypothesis.split())
            if span.kind == "delete":
                deleted.append(said)
            wrong = said if span.kind == "substitute" else 0
            counts += WordCounts(wrong, said if span.kind == "delete" else 0, got if span.kind == "insert" else 0, said)
        return cls(counts, tuple(deleted), int(heard.loops_at_all), int(not hypothesis))


def rise(errors: Sequence[Errors], baseline: Sequence[Errors]) -> str:
    """The rise over a baseline in points, with its interval: the same utterances, drawn together."""
    ours, theirs = ([one.counts for one in rows] for rows in (errors, baseline))
    counted = [[one.errors for one in rows] for rows in (ours, theirs)]
    low, high = difference_interval(counted[0], counted[1], [one.words for one in ours])
    difference = pooled(ours).wer - pooled(theirs).wer
    return f"{100 * difference:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"


def kinds(name: str, errors: Sequence[Errors], hours: float) -> list[str]:
    """A row of what went wrong: kinds of errors, words deleted by the length of their run, loops."""
    total = pooled(one.counts for one in errors)
    runs = [length for one in errors for length in one.deleted]
    words = [sum(n for n in runs if low <= n and (high is None or n <= high)) for low, high in RUNS]
    looped = sum(one.looped for one in errors)
    return [
        name,
        f"{total.substitutions} / {total.deletions} / {total.insertions}",
        " / ".join(map(str, words)),
        f"{looped} ({looped / hours:.1f})",
        str(sum(one.empty for one in errors)),
    ]


KINDS = ("bundle", "subst. / del. / ins.", "words deleted in runs of 1 / 2-3 / 4-9 / 10+", "loops (per hour)", "empty")


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What every table of heard bundles is asked for with: bundles, `--data` and `--store`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("bundles", nargs="+", type=Path, help="the float bundle first")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("EDGE_ASR_DATA", ".")))
    parser.add_argument("--store", type=Path, required=True, help="folder of what was heard")
    return parser


def by_set(sets: Sequence[str], found: dict[str, Sequence[Errors]]) -> str:
    """A table of the first bundle's error rate and the rises of the others; `sets` names the set of each clip."""
    (base, first), *others = found.items()
    rows = []
    for name in (*dict.fromkeys(sets), POOLED):
        chosen = [index for index, one in enumerate(sets) if name in (one, POOLED)]
        before = [first[index] for index in chosen]
        rises = [rise([errors[index] for index in chosen], before) for _, errors in others]
        rows.append([name, f"{100 * pooled(one.counts for one in before).wer:.2f}", *rises])
    return table(["speech", f"{base} WER %", *(f"{bundle} rise" for bundle, _ in others)], rows)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def added(first: Errors, second: Errors) -> Errors:
    """The errors of two texts together."""
    return replace(
        first,
        counts=first.counts + second.counts,
        deleted=first.deleted + second.deleted,
        looped=first.looped + second.looped,
        empty=first.empty + second.empty,
    )


def unseen(bundles: Sequence[Path], utterances: Sequence[Utterance]) -> list[Utterance]:
    """The clips that none of the bundles was calibrated on: those are left out for all."""
    records = [read_manifest(bundle).calibration for bundle in bundles]
    seen = {fingerprint for record in records if record for fingerprint in record.utterance_fingerprints}
    return [utterance for utterance in utterances if utterance.fingerprint() not in seen]


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a manifest, with the keys that only benchmarks know."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
