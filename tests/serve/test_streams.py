"""Server-sent events of a long recording: pieces of its text, signs of life, an error; a client that goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("python_multipart")

from edge_asr_deploy.runtime.transcript import Transcript
from edge_asr_deploy.serve.faults import Busy
from edge_asr_deploy.serve.openai import app
from tests.support.fakes import transcript

ALIVE = ": the recording is being heard\n\n"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "SIGN_OF_LIFE", 0.01)


def stream_of(job: asyncio.Future[Transcript]) -> tuple[AsyncGenerator[str], app.Pieces]:
    """The events of a job, and where its pieces go."""
    pieces: app.Pieces = asyncio.Queue()
    job.add_done_callback(lambda _: pieces.put_nowait(None))
    return app._events(job, asyncio.ensure_future(pieces.get()), pieces), pieces


async def events_of(said: Sequence[str], end: object) -> list[str]:
    """What is sent when a job says something and ends, behind two signs of life; each piece comes before the next."""
    job: asyncio.Future[Transcript] = asyncio.get_running_loop().create_future()
    stream, pieces = stream_of(job)
    for _ in range(2):
        assert await anext(stream) == ALIVE
    found = []
    for piece in said:
        pieces.put_nowait(piece)
        while (event := await anext(stream)) == ALIVE:
            pass
        found.append(event)
    if isinstance(end, Exception):
        job.set_exception(end)
    else:
        assert isinstance(end, Transcript)
        job.set_result(end)
    return [*found, *[one async for one in stream if not one.startswith(":")]]


def test_each_piece_is_sent_when_it_comes_and_the_whole_at_the_end() -> None:
    sent = asyncio.run(events_of(["said", " more"], transcript("said more", 1.0)))
    assert [json.loads(one.removeprefix("data: ")) for one in sent] == [
        {"type": "transcript.text.delta", "delta": "said"},
        {"type": "transcript.text.delta", "delta": " more"},
        {"type": "transcript.text.done", "text": "said more"},
    ]


def test_a_fault_is_an_event() -> None:
    delta, found = (
        json.loads(one.removeprefix("data: ")) for one in asyncio.run(events_of(["said"], Busy("all is full")))
    )
    assert delta["delta"] == "said"
    assert found == {"error": {"message": "all is full", "type": "rate_limit_error", "code": "busy"}}


def test_a_client_that_goes_cancels_its_request() -> None:
    async def run() -> bool:
        job: asyncio.Future[Transcript] = asyncio.get_running_loop().create_future()
        stream, _ = stream_of(job)
        await anext(stream)
        await stream.aclose()
        return job.cancelled()

    assert asyncio.run(run())
