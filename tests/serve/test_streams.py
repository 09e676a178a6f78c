"""Server-sent events of a recording that takes long: signs of life, then the text or an error; a client that goes."""

from __future__ import annotations

import asyncio
import json

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("python_multipart")

from edge_asr_deploy.runtime.transcript import Transcript
from edge_asr_deploy.serve.faults import Busy
from edge_asr_deploy.serve.openai import app
from tests.support.fakes import transcript


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "SIGN_OF_LIFE", 0.01)


async def events_of(job: asyncio.Future[Transcript], end: object) -> list[str]:
    """What is sent when the job ends, behind two signs of life."""
    stream = app._later(job)
    for _ in range(2):
        assert await anext(stream) == ": the recording is being heard\n\n"
    if isinstance(end, Exception):
        job.set_exception(end)
    else:
        assert isinstance(end, Transcript)
        job.set_result(end)
    return [one async for one in stream if not one.startswith(":")]


def test_the_text_comes_after_signs_of_life() -> None:
    async def run() -> list[str]:
        return await events_of(asyncio.get_running_loop().create_future(), transcript("said", 1.0))

    found = [json.loads(one.removeprefix("data: ")) for one in asyncio.run(run())]
    assert found == [
        {"type": "transcript.text.delta", "delta": "said"},
        {"type": "transcript.text.done", "text": "said"},
    ]


def test_a_fault_is_an_event() -> None:
    async def run() -> list[str]:
        return await events_of(asyncio.get_running_loop().create_future(), Busy("all is full"))

    [found] = [json.loads(one.removeprefix("data: ")) for one in asyncio.run(run())]
    assert found == {"error": {"message": "all is full", "type": "rate_limit_error", "code": "busy"}}


def test_a_client_that_goes_cancels_its_request() -> None:
    async def run() -> bool:
        job: asyncio.Future[Transcript] = asyncio.get_running_loop().create_future()
        stream = app._later(job)
        await anext(stream)
        await stream.aclose()
        return job.cancelled()

    assert asyncio.run(run())
