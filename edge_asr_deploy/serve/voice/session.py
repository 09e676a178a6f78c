"""One client's connection: events come, and each utterance is answered in its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack, suppress
from time import monotonic
from typing import Any, TypeVar

from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, Eventable, async_write_event
from wyoming.info import Describe
from wyoming.ping import Ping, Pong

from edge_asr_deploy.serve.faults import Fault, TooSlow, Unforeseen, fault_of
from edge_asr_deploy.serve.hearing import Wish, report
from edge_asr_deploy.serve.listening import Listening
from edge_asr_deploy.serve.shared import Shared
from edge_asr_deploy.serve.voice.answer import Answer
from edge_asr_deploy.serve.voice.events import LONGEST_LINE, read_event
from edge_asr_deploy.serve.voice.info import information
from edge_asr_deploy.serve.voice.utterance import Format, Utterance

SERVICE = "wyoming"
# Seconds without an event: while somebody speaks, and between utterances.
SPEAKING, RESTING = 30.0, 600.0
# Seconds that a client has to go after an error.
LEAVING = 10.0
# Names and terms that bias the text: about as many as a Whisper is told before it hears.
MOST_WORDS, LONGEST_WORD = 50, 64
Result = TypeVar("Result")


class Session:
    """A connection. `is_speaking` says that an utterance has begun and is not yet answered."""

    def __init__(self, shared: Shared, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._shared, self._reader, self._writer = shared, reader, writer
        self._wish = self._plain()
        self._format: Format | None = None
        self._utterance: Utterance | None = None
        self._answer: Answer | None = None
        # None where nothing is heard before the end.
        self._listening: Listening | None = None
        self._reading: asyncio.Task[Event | None] | None = None
        self._stack = ExitStack()
        self.is_speaking, self._until = False, 0.0

    async def run(self, stopping: asyncio.Event) -> None:
        """Answer until the client goes, or until the server stops and nobody speaks.

        After a fault the connection is closed: Home Assistant waits for a text until then.
        """
        try:
            while self.is_speaking or not stopping.is_set():
                event = await self._next(stopping)
                if event is None:
                    break
                await self._take(event)
        except (ConnectionError, TimeoutError):
            pass
        except Exception as error:
            await self._refuse(error)
        finally:
            self._forget()
            if self._reading is not None:
                self._reading.cancel()
            self._writer.close()

    async def _next(self, stopping: asyncio.Event) -> Event | None:
        """The next event. None at the end of the connection, after a long rest, or when the server stops."""
        reading = self._read()
        if self.is_speaking:
            await asyncio.wait({reading}, timeout=min(SPEAKING, max(0.0, self._until - monotonic())))
        else:
            ending = asyncio.ensure_future(stopping.wait())
            waited: set[asyncio.Future[Any]] = {reading, ending}
            await asyncio.wait(waited, timeout=RESTING, return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
        if reading.done():
            self._reading = None
            return reading.result()
        if self.is_speaking:
            raise TooSlow(f"no sound came for {SPEAKING:.0f} s, or no end of the utterance for very long")
        return None

    def _read(self) -> asyncio.Task[Event | None]:
        """Reads the next event, which may come later."""
        if self._reading is None:
            self._reading = asyncio.create_task(read_event(self._reader, self._shared.budget))
        return self._reading

    async def _take(self, event: Event) -> None:
        if Describe.is_type(event.type):
            await self._send(information(self._shared))
        elif Ping.is_type(event.type):
            await self._send(Pong(text=Ping.from_event(event).text))
        elif Transcribe.is_type(event.type):
            self._wish = self._wished(event.data)
            if self._listening is not None and self._answer is not None and not self._answer.has_text:
                # It comes late, and holds for what was said before.
                self._listening.close()
                self._listening = None
        elif AudioStart.is_type(event.type):
            self._begin()
            self._format = Format.of(event.data)
        elif AudioChunk.is_type(event.type):
            # Some clients send no audio-start.
            self._chunk(Format.of({**(vars(self._format) if self._format else {}), **event.data}), event.payload or b"")
        elif AudioStop.is_type(event.type):
            await self._end()
        # Whatever else there is in the protocol is for other services.

    def _begin(self) -> None:
        """Begin an utterance, and forget one that was not ended. Busy when no place is free."""
        self._forget()
        self._stack.enter_context(self._shared.places.one())
        held = self._stack.enter_context(self._shared.budget.held())
        self._utterance, self.is_speaking = Utterance(self._shared.longest, held), True
        answer = self._answer = Answer(self._send)
        if self._shared.is_live:
            self._listening = Listening(self._shared.hearing, self._wish, answer.tell)
        # Speech takes as long as it is; a client may be late, but not for ever.
        self._until = monotonic() + self._shared.longest + SPEAKING

    def _chunk(self, form: Format, sound: bytes) -> None:
        """Take sound, which is heard while more comes."""
        if self._utterance is None:
            self._begin()
        assert self._utterance is not None
        samples = self._utterance.add(form, sound)
        if self._listening is not None:
            self._listening.add(samples)

    def _forget(self) -> None:
        """Give up the utterance, and its place."""
        if self._listening is not None:
            self._listening.close()
        if self._answer is not None:
            self._answer.forget()
        self._listening = self._answer = self._utterance = None
        self._stack.close()

    async def _end(self) -> None:
        """Answer an utterance. No sound has no text."""
        if self._utterance is None:
            self._begin()
        utterance, answer, listening, wish = self._utterance, self._answer, self._listening, self._wish
        assert utterance is not None and answer is not None
        samples = utterance.done()
        self._wish, self._format, self._utterance = self._plain(), None, None
        language = wish.language
        if len(samples) and listening is not None:
            await self._unless_gone(listening.finish(samples))
            language = listening.language
        elif len(samples):
            release = self._stack.pop_all().close
            transcript = await self._unless_gone(self._shared.hearing.hear(lambda: samples, wish, release))
            language = transcript.language or language
            answer.tell(transcript.text, language)
        self._stack.close()
        self._shared.metrics.answered(SERVICE, "ok")
        await answer.end(language)
        self._forget()
        self.is_speaking = False

    async def _unless_gone(self, job: Coroutine[Any, Any, Result]) -> Result:
        """A job's result. A client that goes away cancels it: ConnectionError. What it sends meanwhile waits."""
        task, reading = asyncio.create_task(job), self._read()
        waited: set[asyncio.Future[Any]] = {task, reading}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if reading.done() and not task.done() and _is_end(reading):
                raise ConnectionError
            return await task
        finally:
            task.cancel()

    async def _refuse(self, error: Exception) -> None:
        fault = fault_of(error)
        if isinstance(fault, Unforeseen) and not isinstance(error, Fault):
            report(error)
        code = fault.code or fault.kind
        self._shared.metrics.answered(SERVICE, code)
        self._forget()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
        with suppress(ConnectionError, TimeoutError):
            await self._send(Error(text=fault.sentence, code=code))
            # What the client still sends is forgotten: if it met a closed connection, the error would be lost.
            self._writer.write_eof()
            async with asyncio.timeout(LEAVING):
                while await self._reader.read(LONGEST_LINE):
                    pass

    async def _send(self, event: Eventable) -> None:
        async with asyncio.timeout(SPEAKING):
            await async_write_event(event.event(), self._writer)

    def _plain(self) -> Wish:
        return Wish(language=self._shared.language, prompt=self._shared.prompt, hints=self._shared.hotwords)

    def _wished(self, data: dict[str, Any]) -> Wish:
        """What a `transcribe` event asks for. Fault for a field of another type."""
        language, context = data.get("language"), data.get("context") or {}
        prompt = context.get("prompt") if isinstance(context, dict) else None
        lists = [data.get(name) or [] for name in ("transcript_names", "transcript_terms")]
        words = [word for one in lists if isinstance(one, list) for word in one]
        given = [one for one in (language, prompt, *words) if one is not None]
        if not all(isinstance(one, str) for one in given) or not all(isinstance(one, list) for one in lists):
            raise Fault("transcribe: language, prompt, names and terms are texts")
        hints = (*(word for word in words if 0 < len(word) <= LONGEST_WORD), *self._shared.hotwords)[:MOST_WORDS]
        return Wish(language=language or self._shared.language, prompt=prompt or self._shared.prompt, hints=hints)


def _is_end(reading: asyncio.Task[Event | None]) -> bool:
    """Whether a connection ended, instead of another event."""
    error = reading.exception()
    return reading.result() is None if error is None else isinstance(error, ConnectionError)
