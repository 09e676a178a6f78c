"""The paths of the HTTP server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from edge_asr_deploy.runtime.audio.reading import read_sound
from edge_asr_deploy.runtime.transcript import Transcript
from edge_asr_deploy.serve import metrics
from edge_asr_deploy.serve.faults import Fault, Unforeseen, Unknown, WrongMethod, fault_of
from edge_asr_deploy.serve.hearing import report
from edge_asr_deploy.serve.openai.answers import event, fault_response, response
from edge_asr_deploy.serve.openai.form import read_form
from edge_asr_deploy.serve.openai.guard import CLIENT_GONE, Guard
from edge_asr_deploy.serve.openai.wishes import Asked, asked, check_model
from edge_asr_deploy.serve.shared import Shared

# Seconds until a stream that has nothing to say gives a sign of life. Until the first one, a fault has a status.
SIGN_OF_LIFE = 10.0
# The text of a recording piece by piece, and None behind the last one.
Pieces = asyncio.Queue[str | None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Paths:
    """What the paths do."""

    shared: Shared

    async def transcribe(self, request: Request) -> Response:
        """POST /v1/audio/transcriptions."""
        return await self._hear(request, "transcribe")

    async def translate(self, request: Request) -> Response:
        """POST /v1/audio/translations: to English."""
        return await self._hear(request, "translate")

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/NAME."""
        check_model(request.path_params["name"], self.shared.model)
        return JSONResponse(self._model())

    async def health(self, request: Request) -> Response:
        """GET /health."""
        return JSONResponse({"status": "ok", "model": self.shared.model})

    async def metrics(self, request: Request) -> Response:
        """GET /metrics."""
        return Response(self.shared.metrics.text(), headers={"Content-Type": metrics.TYPE})

    def _model(self) -> dict[str, object]:
        return {"id": self.shared.model, "object": "model", "created": self.shared.created, "owned_by": "edge-deploy"}

    async def _hear(self, request: Request, task: str) -> Response:
        shared = self.shared
        with ExitStack() as stack:
            stack.enter_context(shared.places.one())
            held = stack.enter_context(shared.budget.held())
            form = await read_form(request, shared.largest, held)
            wanted = asked(form, task, shared)
            assert form.recording is not None
            recording, name = form.recording, form.name
            # From here on the model's thread says when the place is free.
            release = stack.pop_all().close

        def samples() -> NDArray[np.float32]:
            with recording:
                return read_sound(recording, name, shared.longest)

        if wanted.is_streamed:
            pieces: Pieces = asyncio.Queue()
            job = asyncio.ensure_future(shared.hearing.hear(samples, wanted.wish, release, pieces.put_nowait))
            job.add_done_callback(lambda _: pieces.put_nowait(None))
            return await self._streamed(request, job, pieces)
        job = asyncio.ensure_future(shared.hearing.hear(samples, wanted.wish, release))
        transcript = await _unless_gone(request, job, job)
        return self._answer(wanted, transcript, task)

    def _answer(self, wanted: Asked, transcript: Transcript, task: str) -> Response:
        language = transcript.language or wanted.wish.language or self.shared.languages[0]
        return response(wanted.format, transcript, language, task, wanted.granularities)

    async def _streamed(self, request: Request, job: asyncio.Future[Transcript], pieces: Pieces) -> Response:
        """Server-sent events: each piece of the text as soon as it was heard. A fault before them has a status."""
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        first: asyncio.Future[str | None] = asyncio.ensure_future(pieces.get())
        with suppress(TimeoutError):
            piece = await _unless_gone(request, job, first, SIGN_OF_LIFE)
            if piece is None:
                # Without any text, or a fault.
                job.result()
        return StreamingResponse(_events(job, first, pieces), media_type="text/event-stream", headers=headers)


async def _events(
    job: asyncio.Future[Transcript], first: asyncio.Future[str | None], pieces: Pieces
) -> AsyncGenerator[str]:
    """The events of a job, which sends pieces and at its end None; `first` is the first of them."""
    try:
        following = first
        while True:
            while not (await asyncio.wait({following}, timeout=SIGN_OF_LIFE))[0]:
                yield ": the recording is being heard\n\n"
            piece = following.result()
            if piece is None:
                break
            yield event({"type": "transcript.text.delta", "delta": piece})
            following = asyncio.ensure_future(pieces.get())
        yield event({"type": "transcript.text.done", "text": (await job).text})
    except Exception as error:
        fault = fault_of(error)
        yield event({"error": {"message": fault.sentence, "type": fault.kind, "code": fault.code}})
    finally:
        job.cancel()


async def _unless_gone(
    request: Request, job: asyncio.Future[Any], awaited: asyncio.Future[Result], seconds: float | None = None
) -> Result:
    """The result of what is `awaited` of a job. A client that goes away cancels the job: ClientDisconnect.

    TimeoutError after so many seconds; the job goes on.
    """
    gone = asyncio.ensure_future(_gone(request))
    try:
        waited: set[asyncio.Future[Any]] = {awaited, gone}
        await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    except BaseException:
        job.cancel()
        raise
    finally:
        is_gone = gone.done()
        gone.cancel()
    if awaited.done():
        return awaited.result()
    if is_gone:
        job.cancel()
        raise ClientDisconnect
    raise TimeoutError


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


Endpoint = Callable[[Request], Awaitable[Response]]


def _answering(endpoint: Endpoint) -> Endpoint:
    """The same, with every error as an answer."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)
        except Exception as error:
            fault = fault_of(error)
            if isinstance(fault, Unforeseen) and not isinstance(error, Fault):
                report(error)
            return fault_response(fault)

    return answer


def _refused(request: Request, error: Exception) -> Response:
    """The answer where no path is meant."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    path = request.url.path
    if status == 405:
        return fault_response(WrongMethod(f"{request.method} {path}: is not asked this way; see docs/guide/openai.md"))
    return fault_response(Unknown(f"{path}: is not here; there are /v1/audio/transcriptions, /v1/models and /health"))


def openai_app(shared: Shared) -> ASGIApp:
    """The ASGI application."""
    paths = _Paths(shared)
    routes: list[tuple[str, str, Endpoint]] = [
        ("POST", "/v1/audio/transcriptions", paths.transcribe),
        ("POST", "/v1/audio/translations", paths.translate),
        ("GET", "/v1/models", paths.models),
        ("GET", "/v1/models/{name:path}", paths.model),
        ("GET", "/health", paths.health),
        ("GET", "/metrics", paths.metrics),
    ]
    made = [Route(path, _answering(endpoint), methods=[method]) for method, path, endpoint in routes]
    return Guard(Starlette(routes=made, exception_handlers={HTTPException: _refused}), shared)
