"""Run bundles over speech: once over everything for the text, side by side on a few clips for the speed."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from edge_asr_deploy.corpora.utterance import SAMPLE_RATE, Utterance
from edge_asr_deploy.harness.evaluation.process import Answer, Worker
from edge_asr_deploy.harness.evaluation.result import Clip, Percentiles, Speed
from edge_asr_deploy.harness.evaluation.speech import Item
from edge_asr_deploy.harness.evaluation.transcripts import Text, TranscriptCache
from edge_asr_deploy.progress import Counter, Progress
from edge_asr_deploy.runtime.session import SessionSettings


@dataclass(frozen=True)
class Subject:
    """A bundle's folder, the keywords for its `Transcriber.transcribe` (the language, where it has any), its target.

    Without a target the CPU decides which of the bundle's graphs run. `audio_context`: seconds of silence after the
    clip that Whisper's encoder is given, None for its whole window; a baseline has its whole one.
    """

    bundle: Path
    options: dict[str, str]
    target: str | None = None
    audio_context: float | None = None

    def worker(self, settings: SessionSettings) -> Worker:
        """This bundle in a process of its own."""
        return Worker(self.bundle, settings, self.target, self.audio_context)


def transcribe_all(
    subject: Subject,
    items: Sequence[Item],
    settings: SessionSettings,
    jobs: int,
    cache: TranscriptCache | None,
    progress: Progress,
) -> list[Text]:
    """The texts of all items, in order, by `jobs` processes; `progress` is told of each.

    Says nothing about speed: texts may come from the cache, and the processes disturb each other.
    """
    texts = [cache.get(item.fingerprint) if cache else None for item in items]
    remaining = deque(index for index, text in enumerate(texts) if text is None)
    advance = Counter(progress, f"transcribing with {subject.bundle.name}", len(items))
    for _ in range(len(items) - len(remaining)):
        advance()
    # Threads that spin while they wait would take the cores from the other processes; the numbers are the same.
    shared = dataclasses.replace(settings, spinning=settings.spinning and jobs == 1)

    def work() -> None:
        with subject.worker(shared) as worker:
            while remaining:
                try:
                    index = remaining.popleft()
                except IndexError:
                    return
                answer = worker.transcribe(items[index].utterance.samples(), subject.options)
                text = texts[index] = Text.of(answer.transcript)
                if cache:
                    cache.put(items[index].fingerprint, text)
                advance()

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        try:
            for future in [pool.submit(work) for _ in range(min(jobs, len(remaining)))]:
                future.result()
        finally:
            # After an error or Ctrl-C the other processes finish the clip they are at, and no more.
            remaining.clear()
    return [text for text in texts if text is not None]


def speed_clips(items: Sequence[Item], number: int) -> list[Item]:
    """`number` items of evenly spread length, none of them the shortest or longest where there is a choice."""
    by_length = sorted(items, key=lambda item: (item.seconds, item.utterance.id))
    number = min(number, len(by_length))
    return [by_length[int((index + 0.5) * len(by_length) / number)] for index in range(number)]


@dataclass(frozen=True)
class Timed:
    """What several rounds gave for one bundle: seconds to load, and every timed transcription in order."""

    loads: list[float]
    answers: list[tuple[Clip, Answer]]


def measure_speed(
    subjects: Sequence[Subject],
    clips: Sequence[Item],
    settings: SessionSettings,
    rounds: int,
    progress: Progress,
) -> list[Speed]:
    """Time several bundles side by side, as `time_in_turn` does, with the first clip for warming up."""
    utterances = [clip.utterance for clip in clips]
    advance = Counter(progress, "timing", len(clips) * len(subjects) * rounds)
    return [speed_of(timed) for timed in time_in_turn(subjects, utterances, settings, rounds, 1, advance)]


def time_in_turn(
    subjects: Sequence[Subject],
    clips: Sequence[Utterance],
    settings: SessionSettings,
    rounds: int,
    warm_up: int,
    advance: Callable[[], None],
) -> list[Timed]:
    """Let several bundles transcribe the same clips; `advance` is called once per round, bundle and clip.

    Each round opens every bundle in a fresh process, one after the other, lets each transcribe the first `warm_up`
    clips untimed, then takes the clips in turn: A B A B. Odd rounds go B A B A, so that neither always runs on the
    warmer machine. Before, every bundle is opened once: what a first start leaves in the start-up cache is there then,
    so load time and peak memory are those of later starts.
    """
    samples = [clip.samples() for clip in clips]
    timed = [Timed([], []) for _ in subjects]
    for subject in subjects:
        with subject.worker(settings):
            pass
    for number in range(rounds):
        order = list(range(len(subjects)))[:: -1 if number % 2 else 1]
        with ExitStack() as stack:
            workers: dict[int, Worker] = {}
            for which in order:
                workers[which] = stack.enter_context(subjects[which].worker(settings))
            for which in order:
                timed[which].loads.append(workers[which].load_seconds)
                for audio in samples[:warm_up]:
                    workers[which].transcribe(audio, subjects[which].options)
            for utterance, audio in zip(clips, samples, strict=True):
                for which in order:
                    answer = workers[which].transcribe(audio, subjects[which].options)
                    clip = Clip(
                        id=utterance.id,
                        round=number,
                        seconds=len(audio) / SAMPLE_RATE,
                        total=answer.transcript.timings.total,
                        tokens=len(answer.transcript.tokens),
                    )
                    timed[which].answers.append((clip, answer))
                    advance()
    return timed


def speed_of(timed: Timed) -> Speed:
    """Figures over all clips and rounds."""
    timings = [answer.transcript.timings for _, answer in timed.answers]
    steps = [step for timing in timings for step in timing.per_token]
    return Speed(
        load_seconds=median(timed.loads),
        rtf=sum(clip.total for clip, _ in timed.answers) / sum(clip.seconds for clip, _ in timed.answers),
        tokens_per_second=len(steps) / sum(steps) if steps else None,
        first_token_ms=milliseconds([timing.first_token for timing in timings]),
        per_token_ms=milliseconds(steps) if steps else None,
        encoder_ms=milliseconds([timing.encoder for timing in timings]),
        features_ms=milliseconds([timing.features for timing in timings]),
        peak_rss=max(answer.peak_rss for _, answer in timed.answers),
        rounds=len(timed.loads),
        clips=[clip for clip, _ in timed.answers],
    )


def milliseconds(seconds: Sequence[float]) -> Percentiles:
    """Median and tail of some times."""
    p50, p90, p99 = (float(value) * 1000 for value in np.percentile(seconds, [50, 90, 99]))
    return Percentiles(p50=p50, p90=p90, p99=p99)
