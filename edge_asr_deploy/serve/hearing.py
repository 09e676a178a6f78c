"""What a client wishes, and the one thread in which the model hears: a `Transcriber` is not for several threads."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.errors import Note, UserError
from edge_asr_deploy.printing import one_line
from edge_asr_deploy.runtime.startup.optimized_graphs import release_memory
from edge_asr_deploy.runtime.transcriber import Transcriber
from edge_asr_deploy.runtime.transcript import Transcript
from edge_asr_deploy.serve.faults import Fault, Stopping, Unforeseen, fault_of
from edge_asr_deploy.serve.metrics import Metrics

HOTWORDS = "--hotwords"
# What a longer recording took is given back to the system: hundreds of MB for an hour.
LONG_SECONDS = 60.0
# Gives the samples, in the model's thread: one recording is decoded at a time.
Source = Callable[[], NDArray[np.float32]]


@dataclass(frozen=True)
class Wish:
    """How a recording is to be heard: keywords of `Transcriber.transcribe`, which costs no more than what is asked."""

    language: str | None = None
    task: str | None = None
    timestamps: str | None = None
    prompt: str | None = None
    hotwords: tuple[str, ...] = ()
    temperature: float = 0.0
    hints: tuple[str, ...] = ()
    """Words that may help, the best first; the model takes as many of them as it can, which may be none."""

    def keywords(self) -> dict[str, Any]:
        """What differs from the defaults."""
        plain = Wish()
        names = ("language", "task", "timestamps", "prompt", "hotwords", "temperature")
        return {name: value for name in names if (value := getattr(self, name)) != getattr(plain, name)}


@dataclass(frozen=True)
class _Job:
    source: Source
    wish: Wish
    future: Future[Transcript]
    asked: float


class Hearing:
    """The thread in which the model hears one recording after the other."""

    def __init__(self, transcriber: Transcriber, metrics: Metrics) -> None:
        self._transcriber, self._metrics = transcriber, metrics
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._is_open = True
        # A daemon: a transcription that is given up does not keep the process.
        self._thread = threading.Thread(target=self._run, name="hearing", daemon=True)
        self._thread.start()

    async def hear(self, source: Source, wish: Wish, release: Callable[[], None]) -> Transcript:
        """The transcript of what `source` gives. Cancelled while it waits, it is never heard. Fault if refused.

        `release` is called in the event loop's thread when the model's thread is done with it, in any case.
        """
        if not self._is_open:
            release()
            raise Stopping("the server is stopping; try again in a moment")
        job = _Job(source, wish, Future(), perf_counter())
        loop = asyncio.get_running_loop()

        def done(future: Future[Transcript]) -> None:
            # The loop is closed when a request was given up at the end of the server.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(release)

        job.future.add_done_callback(done)
        self._jobs.put(job)
        return await asyncio.wrap_future(job.future)

    def close(self) -> None:
        """Take nothing more; what was taken on is heard."""
        self._is_open = False
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not job.future.set_running_or_notify_cancel():
                continue
            started = perf_counter()
            try:
                transcript = self._heard(job)
            except Exception as error:
                job.future.set_exception(_reported(error))
            else:
                self._metrics.heard(transcript.seconds, perf_counter() - started, started - job.asked)
                job.future.set_result(transcript)
                if transcript.seconds > LONG_SECONDS:
                    release_memory()
            # Its samples need not stay until the next one comes.
            del job

    def _heard(self, job: _Job) -> Transcript:
        with warnings.catch_warnings():
            # A client's header is no matter for the operator.
            warnings.simplefilter("ignore", Note)
            samples = job.source()
        keywords, hints = job.wish.keywords(), job.wish.hints
        while hints:
            try:
                return self._transcriber.transcribe(samples, **keywords, hotwords=hints)
            except UserError as error:
                # Told before anything is decoded: they do not fit, or this model takes none.
                if error.thing != HOTWORDS:
                    raise
                hints = hints[: len(hints) // 2]
        return self._transcriber.transcribe(samples, **keywords)


def _reported(error: Exception) -> Fault:
    """The fault for the client; a line on standard error for what nobody foresaw."""
    fault = fault_of(error)
    if isinstance(fault, Unforeseen):
        report(error)
    return fault


def report(error: BaseException) -> None:
    """Say on standard error what failed, in one line. Messages may quote a request, so that only the kind is told."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" ({place.tb_frame.f_code.co_filename}:{place.tb_lineno})" if place is not None else ""
    print(one_line(f"edge-deploy: a request failed: {type(error).__name__}{where}"), file=sys.stderr, flush=True)
