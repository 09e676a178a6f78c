"""Listens for Wyoming's clients."""

from __future__ import annotations

import asyncio
import socket

from wyoming.error import Error
from wyoming.event import async_write_event

from edge_asr_deploy.serve.shared import Shared
from edge_asr_deploy.serve.voice.events import LONGEST_LINE
from edge_asr_deploy.serve.voice.session import Session

MOST_CONNECTIONS = 128


class VoiceServer:
    """Connections of Wyoming's clients on one socket."""

    def __init__(self, shared: Shared, listening: socket.socket) -> None:
        self._shared, self._listening = shared, listening
        self._sessions: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    async def serve(self) -> None:
        """Serve until `stop`, and then until nobody speaks any more."""
        server = await asyncio.start_server(self._connected, sock=self._listening, limit=LONGEST_LINE)
        await self._stopping.wait()
        server.close()
        if self._sessions:
            await asyncio.wait(self._sessions)

    def stop(self) -> None:
        """Take no new utterance; those that have begun are answered."""
        self._stopping.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._sessions) >= MOST_CONNECTIONS or self._stopping.is_set():
            error = Error(text="the server has too many connections, or is stopping; try later", code="busy")
            await async_write_event(error.event(), writer)
            writer.close()
            return
        self._sessions.add(task)
        try:
            await Session(self._shared, reader, writer).run(self._stopping)
        finally:
            self._sessions.discard(task)
