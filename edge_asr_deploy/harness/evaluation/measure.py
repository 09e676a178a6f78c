"""Runs bundles over speech: once over all clips for the text, side by side over a few clips for the speed."""

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
from edge_asr_deploy.runtime.options import Margin
from edge_asr_deploy.runtime.session import SessionSettings


@dataclass(frozen=True)
class Subject:
    """A bundle to be measured, and how it is run.

    `options` are keywords of `Transcriber.transcribe`, such as the language. Without a `target` the CPU decides which
    of the bundle's graphs run. `audio_context` is the silence after the clip, in seconds, that Whisper's encoder gets;
    None stands for its whole window, which a baseline always gets.
    """

    bundle: Path
    options: dict[str, str]
    target: str | None = None
    audio_context: Margin = None

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
    """Transcribe all items with `jobs` processes, and return the texts in the order of the items.

    The run is no measurement of speed: texts may come from the cache, and the processes disturb each other.
    """
    texts = [cache.get(item.fingerprint) if cache else None for item in items]
    remaining = deque(index for index, text in enumerate(texts) if text is None)
    clip_done = Counter(progress, f"transcribing with {subject.bundle.name}", len(items))
    for _ in range(len(items) - len(remaining)):
        clip_done()
    # Threads that spin while they wait would take cores from the other processes. Spinning does not change the texts.
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
                clip_done()

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        try:
            for future in [pool.submit(work) for _ in range(min(jobs, len(remaining)))]:
                future.result()
        finally:
            # After an error or Ctrl-C the other processes only finish the clip that they are working on.
            remaining.clear()
    return [text for text in texts if text is not None]


def speed_clips(items: Sequence[Item], number: int) -> list[Item]:
    """`number` items of evenly spread lengths. The shortest and the longest are avoided if there is a choice."""
    by_length = sorted(items, key=lambda item: (item.seconds, item.utterance.id))
    number = min(number, len(by_length))
    return [by_length[int((index + 0.5) * len(by_length) / number)] for index in range(number)]


@dataclass(frozen=True)
class Timed:
    """The times of one bundle over several rounds: seconds to load, and every timed transcription in order."""

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
    clip_done = Counter(progress, "timing", len(clips) * len(subjects) * rounds)
    return [speed_of(timed) for timed in time_in_turn(subjects, utterances, settings, rounds, 1, clip_done)]


def time_in_turn(
    subjects: Sequence[Subject],
    clips: Sequence[Utterance],
    settings: SessionSettings,
    rounds: int,
    warm_up: int,
    clip_done: Callable[[], None],
) -> list[Timed]:
    """Let several bundles transcribe the same clips; `clip_done` is called once for each round, bundle and clip.

    Each round opens every bundle in a fresh process, one after the other, lets each transcribe the first `warm_up`
    clips untimed, and then times the clips in turn: A B A B. Odd rounds go B A B A, so that no bundle always runs on
    the warmer machine. Before the first round every bundle is opened once, which fills the start-up cache. Load time
    and peak memory are therefore those of later starts.
    """
    samples = [clip.samples() for clip in clips]
    timed = [Timed([], []) for _ in subjects]
    for subject in subjects:
        with subject.worker(settings):
            pass
    for number in range(rounds):
        order = list(range(len(subjects)))
        if number % 2:
            order.reverse()
        with ExitStack() as stack:
            workers: dict[int, Worker] = {}
            for subject_index in order:
                workers[subject_index] = stack.enter_context(subjects[subject_index].worker(settings))
            for subject_index in order:
                timed[subject_index].loads.append(workers[subject_index].load_seconds)
                for audio in samples[:warm_up]:
                    workers[subject_index].transcribe(audio, subjects[subject_index].options)
            for utterance, audio in zip(clips, samples, strict=True):
                for subject_index in order:
                    answer = workers[subject_index].transcribe(audio, subjects[subject_index].options)
                    clip = Clip(
                        id=utterance.id,
                        round=number,
                        seconds=len(audio) / SAMPLE_RATE,
                        total=answer.transcript.timings.total,
                        tokens=len(answer.transcript.tokens),
                    )
                    timed[subject_index].answers.append((clip, answer))
                    clip_done()
    return timed


def speed_of(timed: Timed) -> Speed:
    """The speed over all clips and rounds."""
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
    """The median and the tail of these times, in milliseconds."""
    p50, p90, p99 = (float(value) * 1000 for value in np.percentile(seconds, [50, 90, 99]))
    return Percentiles(p50=p50, p90=p90, p99=p99)
