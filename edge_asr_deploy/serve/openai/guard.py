"""What stands before all paths: the key, the count of requests, the patience with clients."""

from __future__ import annotations

import asyncio
import hmac
from contextlib import suppress
from time import monotonic

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_asr_deploy.serve.faults import NoKey
from edge_asr_deploy.serve.openai.answers import fault_response
from edge_asr_deploy.serve.openai.patience import PATIENCE
from edge_asr_deploy.serve.shared import Shared

SERVICE = "openai"
OPEN_PATHS = ("/health",)
# Whoever watches a service asks for its health and its figures all the time.
COUNTED = "/v1/"
# A client that went away gets no answer: nginx counts it as this.
CLIENT_GONE, TOO_SLOW = 499, 408


class Guard:
    """Answers what has no key, counts what was answered, and gives up clients that do not take their answer."""

    def __init__(self, app: ASGIApp, shared: Shared) -> None:
        self._app, self._shared = app, shared

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = _Exchange(scope, receive, send)
        answer: ASGIApp = self._app
        if not self._may(scope):
            answer = fault_response(NoKey("the key is missing or wrong; send `Authorization: Bearer KEY`"))
        try:
            await answer(scope, exchange.receive, exchange.send)
        except TimeoutError:
            exchange.status = CLIENT_GONE
        finally:
            if scope["path"].startswith(COUNTED):
                self._shared.metrics.answered(SERVICE, str(exchange.status))

    def _may(self, scope: Scope) -> bool:
        if self._shared.api_key is None or scope["path"] in OPEN_PATHS:
            return True
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        return hmac.compare_digest(given, b"Bearer " + self._shared.api_key.encode())


class _Exchange:
    """One request and its answer. TimeoutError for a client that does not take it.

    A refused client may still be sending. If the connection were closed then, it would see a broken pipe instead of the
    answer; so the answer's last, empty part is sent when the rest of the request has come, and was forgotten.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.status = CLIENT_GONE
        self._receive, self._send = receive, send
        self._is_whole = False
        # Such a client sends nothing before it is told to go on.
        self._is_waiting = any(name == b"expect" for name, _ in scope["headers"])

    async def receive(self) -> Message:
        """The next part of the request."""
        self._is_waiting = False
        message = await self._receive()
        self._is_whole = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        is_left = not self._is_whole and not self._is_waiting and self.status != TOO_SLOW
        async with asyncio.timeout(PATIENCE):
            await self._send({**message, "more_body": True} if is_last and is_left else message)
        if is_last and is_left:
            await self._forget()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _forget(self) -> None:
        end = monotonic() + PATIENCE
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while not self._is_whole and monotonic() < end:
                    await self.receive()
