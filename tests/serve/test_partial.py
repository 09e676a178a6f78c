"""Text before the end, against a server process: while somebody speaks, window by window; and clients that leave."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("wyoming")

from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.event import Event

from edge_asr_deploy.runtime.transcriber import Transcriber
from tests.support.exported import export
from tests.support.serving import BOUNDARY, Served, form, metric, serving, sound, transcribe, until
from tests.support.voice import voice

RATE = 16_000
HEARD = "edge_asr_audio_seconds_total"
# Two stretches of speech, and a pause that ends the first one.
SPOKEN = np.concatenate([voice(3), np.zeros(RATE, np.float32), voice(2, 1)])
PCM = (SPOKEN * 32767).astype("<i2").tobytes()
FIRST = 2 * int(3.9 * RATE)


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose texts pass for speech."""
    return export("whisper", tmp_path_factory.mktemp("sure"), sure=True).bundle


@pytest.fixture(scope="module")
def live(speaking: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    options = ("--openai", "0", "--wyoming", "0", "--vad", "on", "--language", "en")
    with serving(speaking, tmp_path_factory.mktemp("live"), *options) as one:
        yield one


async def send(client: AsyncClient, pcm: bytes) -> None:
    for place in range(0, len(pcm), 2048):
        await client.write_event(AudioChunk(RATE, 2, 1, pcm[place : place + 2048]).event())


async def receive(client: AsyncClient, last: str) -> list[Event]:
    found: list[Event] = []
    while not found or found[-1].type != last:
        event = await client.read_event()
        assert event is not None and event.type != "error", event
        found.append(event)
    return found


def talk(served: Served, conversation: Any) -> Any:
    async def run() -> Any:
        async with asyncio.timeout(60), AsyncClient.from_uri(served.wyoming) as client:
            return await conversation(client)

    return asyncio.run(run())


def test_what_was_said_before_a_pause_comes_while_more_is_said(live: Served) -> None:
    async def conversation(client: AsyncClient) -> Any:
        await client.write_event(AudioStart(RATE, 2, 1).event())
        await send(client, PCM[:FIRST])
        # No end of the utterance was sent yet.
        before = await receive(client, "transcript-chunk")
        await send(client, PCM[FIRST:])
        await client.write_event(AudioStop().event())
        return before, await receive(client, "transcript-stop")

    before, after = talk(live, conversation)
    assert before[0].type == "transcript-start" and before[0].data["language"] == "en"
    *chunks, transcript, _ = after
    assert {one.type for one in chunks} == {"transcript-chunk"} and transcript.type == "transcript"
    said = "".join(one.data["text"] for one in [*before[1:], *chunks])
    assert transcript.data["text"] == said and chunks


def test_a_short_command_has_the_text_of_a_file(live: Served, speaking: Path) -> None:
    command = PCM[: 2 * RATE]
    expected = Transcriber.open(speaking).transcribe(np.frombuffer(command, "<i2"), "en").text

    async def conversation(client: AsyncClient) -> Any:
        await send(client, command)
        await client.write_event(AudioStop().event())
        return await receive(client, "transcript-stop")

    start, chunk, transcript, _ = talk(live, conversation)
    assert (start.type, chunk.type) == ("transcript-start", "transcript-chunk")
    assert transcript.data["text"] == chunk.data["text"] == expected


def test_a_wish_that_comes_late_holds_for_all_that_was_said(live: Served, speaking: Path) -> None:
    command = PCM[: 2 * RATE]
    expected = Transcriber.open(speaking).transcribe(np.frombuffer(command, "<i2"), "de").text

    async def conversation(client: AsyncClient) -> Any:
        await send(client, command[:RATE])
        await client.write_event(Transcribe(language="de").event())
        await send(client, command[RATE:])
        await client.write_event(AudioStop().event())
        return await receive(client, "transcript-stop")

    *_, transcript, _ = talk(live, conversation)
    assert transcript.data == {"text": expected, "language": "de"}


def test_what_a_client_sends_while_it_waits_is_kept(live: Served) -> None:
    async def conversation(client: AsyncClient) -> Any:
        for _ in range(2):
            await send(client, PCM[: 2 * RATE])
            await client.write_event(AudioStop().event())
        return [await receive(client, "transcript-stop") for _ in range(2)]

    first, second = talk(live, conversation)
    assert [one.data for one in first] == [one.data for one in second]


def test_the_text_of_a_long_recording_comes_before_all_of_it_was_heard(served: Served) -> None:
    recording = sound(300)
    expected = transcribe(served, recording, language="en").json["text"]
    before = metric(served, HEARD)
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    body = form({"language": "en", "stream": "true"}, recording)
    connection.request("POST", "/v1/audio/transcriptions", body, headers)
    answer = connection.getresponse()
    line = answer.readline()
    assert metric(served, HEARD) == before, "the rest is still to be heard"
    events = [json.loads(one[6:]) for one in [line, *answer.read().splitlines()] if one.startswith(b"data: ")]
    connection.close()
    assert len(events) > 2 and events[-1] == {"type": "transcript.text.done", "text": expected}
    assert "".join(one["delta"] for one in events[:-1]) == expected


@pytest.mark.parametrize("streamed", ["true", "false"])
def test_who_closes_a_connection_is_heard_no_further(served: Served, streamed: str) -> None:
    before, body = metric(served, HEARD), form({"stream": streamed, "language": "en"}, sound(300))
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        head = "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\n"
        kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        connection.sendall(f"{head}{kind}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        if streamed == "true":
            assert b"200 OK" in connection.recv(1000)
        until(lambda: metric(served, "edge_asr_places_taken") == 1)
    until(lambda: metric(served, "edge_asr_places_taken") == 0)
    assert metric(served, HEARD) == before
    assert transcribe(served, sound(), language="en").status == 200


def test_who_closes_a_wyoming_connection_is_heard_no_further(served: Served) -> None:
    before, pcm = metric(served, HEARD), (np.tile(voice(20), 15) * 32767).astype("<i2").tobytes()

    async def conversation(client: AsyncClient) -> None:
        await client.write_event(Transcribe(language="en").event())
        for place in range(0, len(pcm), 1 << 20):
            await client.write_event(AudioChunk(RATE, 2, 1, pcm[place : place + (1 << 20)]).event())
        await client.write_event(AudioStop().event())

    talk(served, conversation)
    until(lambda: metric(served, "edge_asr_places_taken") == 0)
    assert metric(served, HEARD) == before
