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
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.errors import Note, Stopped, UserError
from edge_asr_deploy.printing import one_line
from edge_asr_deploy.runtime.memory import release_memory
from edge_asr_deploy.runtime.transcriber import Transcriber
from edge_asr_deploy.runtime.transcript import Transcript
from edge_asr_deploy.serve.faults import Fault, Gone, Stopping, Unforeseen, fault_of
from edge_asr_deploy.serve.metrics import Metrics

HOTWORDS = "--hotwords"
# What a longer recording took is given back to the system: hundreds of MB for an hour.
LONG_SECONDS = 60.0
# Gives the samples, in the model's thread: one recording is decoded at a time.
Source = Callable[[], NDArray[np.float32]]
Result = TypeVar("Result")


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

    def ask(self, call: Callable[..., Result]) -> Result:
        """Call with the keywords, and with as many of the hints as the model takes. UserError for what it lacks."""
        keywords, hints = self.keywords(), self.hints
        while hints:
            try:
                return call(**keywords, hotwords=hints)
            except UserError as error:
                # Told before anything is decoded: they do not fit, or this model takes none.
                if error.thing != HOTWORDS:
                    raise
                hints = hints[: len(hints) // 2]
        return call(**keywords)


class Rank(IntEnum):
    """What the model's thread does first: text that somebody waits for comes before text while somebody speaks."""

    WAITED_FOR, SPOKEN, END = range(3)


@dataclass(order=True, frozen=True)
class _Task:
    rank: Rank
    number: int
    work: Callable[[Transcriber], Any] = field(compare=False)
    future: Future[Any] = field(compare=False)


class Hearing:
    """The thread in which the model hears: one recording after the other, and between them what is being spoken."""

    def __init__(self, transcriber: Transcriber, metrics: Metrics) -> None:
        self._transcriber, self.metrics = transcriber, metrics
        self._tasks: queue.PriorityQueue[_Task] = queue.PriorityQueue()
        self._numbers = count()
        self._lock, self._waited_for = threading.Lock(), 0
        self._is_open = True
        # A daemon: a transcription that is given up does not keep the process.
        self._thread = threading.Thread(target=self._run, name="hearing", daemon=True)
        self._thread.start()

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody waits for a text: what is not final can wait."""
        return self._waited_for > 0

    async def hear(
        self,
        source: Source,
        wish: Wish,
        release: Callable[[], None],
        on_text: Callable[[str], None] | None = None,
    ) -> Transcript:
        """The transcript of what `source` gives. Fault if refused.

        Cancelled while it waits, it is never heard; cancelled later, it ends before the next token. `on_text` is given
        the text piece by piece, as by `Transcriber.transcribe`. `release` is called when the model's thread is done
        with it, in any case. Both are called in the event loop's thread.
        """
        loop, given_up, asked = asyncio.get_running_loop(), threading.Event(), perf_counter()

        def later(call: Callable[..., None], *arguments: object) -> None:
            # The loop is closed when a request was given up at the end of the server.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(call, *arguments)

        def work(transcriber: Transcriber) -> Transcript:
            started = perf_counter()
            with warnings.catch_warnings():
                # A client's header is no matter for the operator.
                warnings.simplefilter("ignore", Note)
                samples = source()
            following: dict[str, Any] = {"stop": given_up.is_set}
            if on_text is not None:
                following["on_text"] = lambda text: later(on_text, text)
            transcript = wish.ask(lambda **keywords: transcriber.transcribe(samples, **keywords, **following))
            self.metrics.heard(transcript.seconds, perf_counter() - started, started - asked)
            return transcript

        try:
            future = self.submit(work, Rank.WAITED_FOR)
        except Stopping:
            release()
            raise
        future.add_done_callback(lambda _: later(release))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            given_up.set()
            raise

    def submit(self, work: Callable[[Transcriber], Result], rank: Rank) -> Future[Result]:
        """Have something done in the model's thread. Its errors are Faults. Stopping after `close`."""
        if not self._is_open:
            raise Stopping("the server is stopping; try again in a moment")
        task = _Task(rank, next(self._numbers), work, Future())
        self._count(task, 1)
        self._tasks.put(task)
        return task.future

    def close(self) -> None:
        """Take nothing more; what was taken on is heard."""
        self._is_open = False
        self._tasks.put(_Task(Rank.END, next(self._numbers), lambda _: None, Future()))

    def _count(self, task: _Task, number: int) -> None:
        if task.rank is Rank.WAITED_FOR:
            with self._lock:
                self._waited_for += number

    def _run(self) -> None:
        while (task := self._tasks.get()).rank is not Rank.END:
            self._count(task, -1)
            if not task.future.set_running_or_notify_cancel():
                continue
            try:
                result = task.work(self._transcriber)
            except Stopped:
                task.future.set_exception(Gone("the client went away"))
            except Exception as error:
                task.future.set_exception(_reported(error))
            else:
                task.future.set_result(result)
                if isinstance(result, Transcript) and result.seconds > LONG_SECONDS:
                    release_memory()
            # Its samples need not stay until the next one comes.
            del task


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
