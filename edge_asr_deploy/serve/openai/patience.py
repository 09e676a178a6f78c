"""Clients that keep the server waiting: for a request's head, its body, or for taking the answer."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

# Seconds without a sign of life.
PATIENCE = 30.0
# Connections at once; further ones are closed. A process may have 1024 files open.
MOST_CONNECTIONS = 256


async def received(request: Request, left: float) -> Any:
    """The next message of a request. None if none came within the patience, nor within `left` seconds."""
    try:
        async with asyncio.timeout(min(left, PATIENCE)):
            return await request.receive()
    except TimeoutError:
        return None


class Connection(H11Protocol):
    """A connection that is closed when no whole head of a request comes for some time.

    uvicorn waits for the first request for ever. After an answer, what remains of a refused body is read and forgotten,
    so that the client sees the answer; that ends here, too.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
            return
        self._look()

    def data_received(self, data: bytes) -> None:
        """Stop waiting when a request began."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        is_waiting = self.cycle is None or self.cycle.response_complete
        if is_waiting and self._timer is None:
            self._timer = self.loop.call_later(PATIENCE, self.transport.abort)
        elif not is_waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None
