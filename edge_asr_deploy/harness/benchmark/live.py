"""Plays recordings in real time into a stream of speech, and measures what a speaker would notice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, process_time, sleep

import numpy as np
import psutil
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from edge_asr_deploy.bundle.manifest import bundle_hash
from edge_asr_deploy.bundle.verification import verify
from edge_asr_deploy.corpora.normalize import Normalizer, normalizer_for
from edge_asr_deploy.corpora.utterance import SAMPLE_RATE
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.files import require_writable, write_output
from edge_asr_deploy.harness.benchmark.options import BenchOptions
from edge_asr_deploy.harness.evaluation.evaluate import language_options
from edge_asr_deploy.harness.evaluation.measure import milliseconds
from edge_asr_deploy.harness.evaluation.result import Percentiles
from edge_asr_deploy.harness.evaluation.speech import Item, load_speech, prepare, select
from edge_asr_deploy.harness.evaluation.wer import count, pooled
from edge_asr_deploy.harness.machine.environment import Environment, environment
from edge_asr_deploy.progress import Progress, silent
from edge_asr_deploy.runtime.live.events import Final, Partial, SpeechStarted
from edge_asr_deploy.runtime.live.sources import BLOCK_SECONDS
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.transcriber import Transcriber

# Quiet after each recording (faint noise, as of a room), so that its end is heard.
QUIET_SECONDS, QUIET = 1.5, 1e-4


class LiveBenchmark(BaseModel):
    """What `edge-deploy bench --live` measured, as written to JSON. Times are milliseconds, sizes bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = 1
    created: str
    command: str | None = None
    name: str
    hash: str
    threads: int
    environment: Environment
    recordings: int
    seconds: float = Field(description="of audio that was played")
    stretches: int = Field(description="of speech: as many final texts")
    final_ms: Percentiles = Field(description="from the end of speech to its final text, with the pause that ends it")
    work_ms: Percentiles = Field(description="of which the last piece of audio took: what a slower board adds")
    first_partial_ms: Percentiles | None = Field(description="from the begin of speech to its first text")
    partials: int
    revised_words: float = Field(description="share of the words of partial texts that the next text changed")
    cpu: float = Field(description="processor seconds for each second of audio")
    behind_ms: float = Field(description="the longest that audio waited for the processor")
    wer: float = Field(description="word error rate of the final texts")
    wer_whole: float = Field(description="of the same recordings, transcribed as files")
    rss_first: int = Field(description="memory after the first recording")
    rss_last: int
    rate: str


@dataclass
class _Watched:
    """What was seen while recordings played."""

    final: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)
    first_partial: list[float] = field(default_factory=list)
    partials: int = 0
    words: int = 0
    revised: int = 0
    behind: float = 0.0


def run_live(
    bundle: Path,
    options: BenchOptions,
    progress: Progress = silent,
    command: str | None = None,
    wait: Callable[[float], None] = sleep,
) -> LiveBenchmark:
    """Do what `edge-deploy bench --live` does. `wait` lets time pass.

    UserError for a damaged bundle, unusable speech, and an output that cannot be written.
    """
    require_writable("--output", options.output)
    manifest = verify(bundle)
    utterances, _ = load_speech(options.data)
    normalizer = normalizer_for(options.language, (utterance.text for utterance in utterances))
    items = prepare(select(utterances, options.clips), normalizer, silent).items
    settings = SessionSettings(options.threads[0], options.accuracy_level, spinning=False)
    transcriber = Transcriber.open(bundle, settings, audio_context=options.audio_context, target=options.target)
    language = language_options(bundle, options.language).get("language")
    watched, texts, wholes, memory = _Watched(), list[str](), list[str](), list[int]()
    seconds = processor = 0.0
    for index, item in enumerate(items):
        progress("playing", index, len(items))
        samples = _with_quiet(item.utterance.samples())
        begun = process_time()
        texts.append(_played(transcriber, samples, language, watched, wait))
        processor += process_time() - begun
        seconds += len(samples) / SAMPLE_RATE
        memory.append(psutil.Process().memory_info().rss)
        wholes.append(transcriber.transcribe(samples, language).text)
    progress("playing", len(items), len(items))
    if not watched.final:
        raise UserError(
            "speech", ", ".join(map(str, options.data)) or "the default", "nothing in it sounds like speech"
        )
    measured = LiveBenchmark(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        name=bundle.name,
        hash=bundle_hash(manifest),
        threads=settings.threads,
        environment=environment(),
        recordings=len(items),
        seconds=seconds,
        stretches=len(watched.final),
        final_ms=milliseconds(watched.final),
        work_ms=milliseconds(watched.work),
        first_partial_ms=milliseconds(watched.first_partial) if watched.first_partial else None,
        partials=watched.partials,
        revised_words=watched.revised / max(1, watched.words),
        cpu=processor / seconds,
        behind_ms=1000 * watched.behind,
        wer=_errors(items, texts, normalizer),
        wer_whole=_errors(items, wholes, normalizer),
        rss_first=memory[0],
        rss_last=memory[-1],
        rate=normalizer.rate,
    )
    if options.output is not None:
        write_output("--output", options.output, measured.model_dump_json(indent=1) + "\n")
    return measured


def _played(
    transcriber: Transcriber,
    samples: NDArray[np.float32],
    language: str | None,
    watched: _Watched,
    wait: Callable[[float], None],
) -> str:
    """Play one recording; returns its final texts."""
    stream, texts, size = transcriber.stream(language), list[str](), int(BLOCK_SECONDS * SAMPLE_RATE)
    begun_at, shown, started = None, list[str](), perf_counter()
    for index in range(0, len(samples), size):
        block = samples[index : index + size]
        due = started + (index + len(block)) / SAMPLE_RATE
        wait(max(0.0, due - perf_counter()))
        watched.behind = max(watched.behind, perf_counter() - due)
        pushed = perf_counter()
        events = stream.push(block)
        if index + size >= len(samples):
            events += stream.finish()
        now = perf_counter()
        for event in events:
            if isinstance(event, SpeechStarted):
                begun_at, shown = event.time, []
                continue
            text = event.text if isinstance(event, Partial) else event.segment.text
            words = text.split()
            watched.words += len(shown)
            watched.revised += len(shown) - _same(shown, words)
            shown = words
            if isinstance(event, Partial):
                watched.partials += 1
                if begun_at is not None:
                    watched.first_partial.append(now - started - begun_at)
                    begun_at = None
            elif isinstance(event, Final):
                texts.append(text)
                watched.final.append(now - started - event.segment.end)
                watched.work.append(now - pushed)
                shown = []
    return " ".join(texts)


def _same(before: Sequence[str], after: Sequence[str]) -> int:
    """How many words both texts begin with."""
    pairs = zip(before, after, strict=False)
    return next((index for index, (one, other) in enumerate(pairs) if one != other), min(len(before), len(after)))


def _errors(items: Sequence[Item], texts: Sequence[str], normalizer: Normalizer) -> float:
    return pooled(count(item.reference, normalizer(text)) for item, text in zip(items, texts, strict=True)).wer


def _with_quiet(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    noise = np.random.default_rng(0).normal(size=int(QUIET_SECONDS * SAMPLE_RATE)) * QUIET
    return np.concatenate([samples, noise.astype(np.float32)])
