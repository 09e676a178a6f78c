"""The events of one answer: pieces of the text while somebody speaks, and the whole at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from wyoming.asr import Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.event import Eventable


class Answer:
    """Sends pieces in the order in which they are told, by `send`; what is told is never taken back."""

    def __init__(self, send: Callable[[Eventable], Awaitable[None]]) -> None:
        self._send = send
        self._pieces: asyncio.Queue[tuple[str, str | None] | None] = asyncio.Queue()
        self._text, self._is_begun = "", False
        self._task = asyncio.create_task(self._run())
        # Who forgets an answer does not ask how it failed.
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())

    @property
    def has_text(self) -> bool:
        """Whether some of the text was told."""
        return bool(self._text)

    def tell(self, piece: str, language: str | None) -> None:
        """More of the text."""
        if piece:
            self._text += piece
            self._pieces.put_nowait((piece, language))

    async def end(self, language: str | None) -> None:
        """The text is whole: send it once more for clients that know no pieces. ConnectionError if the client went."""
        self._pieces.put_nowait(None)
        await self._task
        await self._begin(language)
        await self._send(Transcript(text=self._text, language=language))
        await self._send(TranscriptStop())

    def forget(self) -> None:
        """Send nothing more."""
        self._task.cancel()

    async def _run(self) -> None:
        while (told := await self._pieces.get()) is not None:
            piece, language = told
            await self._begin(language)
            await self._send(TranscriptChunk(text=piece))

    async def _begin(self, language: str | None) -> None:
        if not self._is_begun:
            self._is_begun = True
            await self._send(TranscriptStart(language=language))
