"""An utterance that is heard while it comes: the text that stays, piece by piece, and at its end the rest."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.errors import Stopped
from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
from edge_asr_deploy.runtime.live.events import Event, Final, Partial
from edge_asr_deploy.runtime.live.stream import Stream
from edge_asr_deploy.runtime.transcriber import Transcriber
from edge_asr_deploy.serve.hearing import Hearing, Rank, Wish

# Samples after which it is looked whether the client is still there, where many have come: 10 s.
PART = 10 * SAMPLE_RATE


class Listening:
    """One utterance. `on_text` is given what stays, piece by piece, and the language; all of it when `finish` is done.

    Used in the event loop's thread; the model's thread hears what has come since it last did.

    So it never has more than one task in the model's thread, however small the chunks and however busy the model. A
    decoding that is not final is given up when somebody waits for a text, the speaker of this utterance included.
    """

    def __init__(self, hearing: Hearing, wish: Wish, on_text: Callable[[str, str | None], None]) -> None:
        self._hearing, self._wish, self._on_text = hearing, wish, on_text
        self._loop = asyncio.get_running_loop()
        self._added = 0
        self._lock, self._waiting = threading.Lock(), list[NDArray[np.float32]]()
        self._task: Future[None] | None = None
        self._ending, self._gone = threading.Event(), threading.Event()
        # The rest belongs to the model's thread.
        self._stream: Stream | None = None
        self._failed: Exception | None = None
        self._finals: list[str] = []
        self._seconds = 0.0
        self._text, self._language = "", wish.language

    @property
    def language(self) -> str | None:
        """The language of what was said, as far as it is known."""
        return self._language

    def add(self, samples: NDArray[np.float32]) -> None:
        """More of the utterance."""
        self._added += len(samples)
        with self._lock:
            self._waiting.append(samples)
        self._go_on()

    async def finish(self, whole: NDArray[np.float32]) -> None:
        """The utterance has ended, and these are all its samples: hear the rest, or all of it if it has no text yet.

        Cancelled, it ends soon. Fault for what the model lacks, and for a server that stops.
        """
        self._ending.set()
        if self._task is not None:
            # It has not begun, or ends soon.
            self._task.cancel()
        with self._lock:
            # A resampler gives its last ones at the end.
            self._waiting.append(whole[self._added :])
        asked = perf_counter()

        def work(transcriber: Transcriber) -> None:
            if self._failed is not None:
                raise self._failed
            started = perf_counter()
            if self._finals or self._text or (self._stream is not None and self._stream.is_ready):
                self._hear(self._pushed(transcriber).finish())
            else:
                # As careful as for a file, and no slower: a short command mostly comes here.
                heard = self._wish.ask(
                    lambda **keywords: transcriber.transcribe(whole, **keywords, stop=self._gone.is_set)
                )
                self._language = heard.language
                self._give(heard.text)
            took = perf_counter() - started
            self._hearing.metrics.heard(len(whole) / SAMPLE_RATE, took, started - asked, self._seconds)

        try:
            await asyncio.wrap_future(self._hearing.submit(work, Rank.WAITED_FOR))
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        """Nobody wants the text any more."""
        self._ending.set()
        self._gone.set()
        if self._task is not None:
            self._task.cancel()

    def _go_on(self) -> None:
        if self._task is not None or self._ending.is_set() or not self._waiting:
            return

        def work(transcriber: Transcriber) -> None:
            started = perf_counter()
            try:
                self._pushed(transcriber)
            except Exception as error:
                # It is said when the client expects an answer.
                self._failed = error
                raise
            self._seconds += perf_counter() - started

        self._task = self._hearing.submit(work, Rank.SPOKEN)
        self._task.add_done_callback(self._done)

    def _done(self, task: Future[None]) -> None:
        """In the model's thread, or where the task was cancelled."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._again, task)

    def _again(self, task: Future[None]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._task = None
            self._go_on()

    def _tell(self, piece: str, language: str | None) -> None:
        if not self._gone.is_set():
            self._on_text(piece, language)

    def _pushed(self, transcriber: Transcriber) -> Stream:
        """Hear what has come."""
        if self._stream is None:
            self._stream = self._wish.ask(lambda **keywords: self._opened(transcriber, **keywords))
        with self._lock:
            taken, self._waiting = self._waiting, []
        arrived = np.concatenate([*taken, np.zeros(0, np.float32)])
        for start in range(0, len(arrived), PART):
            if self._gone.is_set():
                raise Stopped("the client went away")
            self._hear(self._stream.push(arrived[start : start + PART]))
        return self._stream

    def _opened(self, transcriber: Transcriber, **keywords: object) -> Stream:
        return transcriber.stream(only_stable=True, hurry=self._is_hurried, **keywords)  # type: ignore[arg-type]

    def _is_hurried(self) -> bool:
        return self._ending.is_set() or self._hearing.is_waited_for

    def _hear(self, events: Sequence[Event]) -> None:
        """Give the text that is stable now and was not before."""
        stable = ""
        for event in events:
            if isinstance(event, Partial):
                stable = event.stable
            elif isinstance(event, Final):
                stable = ""
                if event.segment.text:
                    self._finals.append(event.segment.text)
        if self._stream is not None:
            self._language = self._stream.language or self._wish.language
        self._give(" ".join([*self._finals, *([stable] if stable else [])]))

    def _give(self, text: str) -> None:
        if text.startswith(self._text) and text != self._text:
            piece = text[len(self._text) :]
            self._text = text
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._tell, piece, self._language)
