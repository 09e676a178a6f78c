"""Wyoming as the package `wyoming` speaks it, against a server process."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

pytest.importorskip("wyoming")

from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping

from edge_asr_deploy.runtime.transcriber import Transcriber
from tests.support.serving import Served, serving, until
from tests.support.voice import voice

PCM = (voice(1.0) * 32768).astype("<i2")


@pytest.fixture(scope="module")
def text(bundle: Path) -> Callable[[str, NDArray[np.int16]], str]:
    """What the bundle hears in 16-bit samples."""
    transcriber = Transcriber.open(bundle)
    return lambda language, samples: transcriber.transcribe(samples.astype(np.float32) / 32768, language).text


Talk = Callable[[AsyncClient], Coroutine[Any, Any, Any]]


def talk(served: Served, conversation: Talk) -> Any:
    async def run() -> Any:
        async with asyncio.timeout(60), AsyncClient.from_uri(served.wyoming) as client:
            return await conversation(client)

    return asyncio.run(run())


async def said(client: AsyncClient, last: str = "transcript-stop") -> list[Event]:
    """Events up to the last one of an answer, or the end of the connection."""
    found = []
    while (event := await client.read_event()) is not None:
        found.append(event)
        if event.type == last:
            break
    return found


def text_of(events: Sequence[Event]) -> str:
    [transcript] = [one for one in events if one.type == "transcript"]
    return str(transcript.data["text"])


async def utter(
    client: AsyncClient,
    sound: bytes,
    rate: int = 16_000,
    width: int = 2,
    channels: int = 1,
    size: int = 2048,
    start: bool = True,
) -> list[Event]:
    if start:
        await client.write_event(AudioStart(rate, width, channels).event())
    for place in range(0, len(sound), size):
        await client.write_event(AudioChunk(rate, width, channels, sound[place : place + size]).event())
    await client.write_event(AudioStop().event())
    return await said(client)


def test_it_says_what_it_is(served: Served) -> None:
    async def conversation(client: AsyncClient) -> Any:
        await client.write_event(Event("select-program", {"name": "edge-deploy"}))
        await client.write_event(Describe().event())
        info = await client.read_event()
        await client.write_event(Ping(text="hello").event())
        return info, await client.read_event()

    info, pong = talk(served, conversation)
    assert (pong.type, pong.data) == ("pong", {"text": "hello"})
    [program] = Info.from_event(info).asr
    [model] = program.models
    assert program.installed and program.supports_transcript_streaming
    assert model.installed and model.languages == ["de", "en"]


def test_an_utterance_becomes_text(served: Served, text: Callable[[str, Any], str]) -> None:
    async def conversation(client: AsyncClient) -> Any:
        await client.write_event(Transcribe(language="de").event())
        return await utter(client, PCM.tobytes())

    events = talk(served, conversation)
    assert [one.type for one in events] == ["transcript-start", "transcript-chunk", "transcript", "transcript-stop"]
    assert text_of(events) == events[1].data["text"] == text("de", PCM)
    assert events[2].data["language"] == "de"


def test_several_utterances_on_one_connection_stand_alone(served: Served, text: Callable[[str, Any], str]) -> None:
    async def conversation(client: AsyncClient) -> Any:
        await client.write_event(Transcribe(language="de").event())
        first = await utter(client, PCM.tobytes())
        await client.write_event(Transcribe(language="en").event())
        return first, await utter(client, PCM[:12_000].tobytes()), await utter(client, PCM.tobytes())

    first, second, third = talk(served, conversation)
    assert text_of(first) == text("de", PCM)
    assert text_of(second) == text("en", PCM[:12_000])
    assert text_of(third), "without `transcribe` the language is detected"


def test_prompt_names_and_terms_reach_the_model(served: Served, bundle: Path) -> None:
    transcriber, samples = Transcriber.open(bundle), PCM.astype(np.float32) / 32768

    async def conversation(client: AsyncClient) -> Any:
        found = []
        for wish in (
            {"context": {"prompt": "w1 w2"}},
            {"transcript_names": ["w3"], "transcript_terms": ["w4"]},
            {"transcript_names": [f"w{number} w1 w2 w3" for number in range(100)]},
        ):
            await client.write_event(Event("transcribe", {"language": "en", **wish}))
            found.append(text_of(await utter(client, PCM.tobytes())))
        return found

    prompted, named, many = talk(served, conversation)
    assert prompted == transcriber.transcribe(samples, "en", prompt="w1 w2").text
    assert named == transcriber.transcribe(samples, "en", hotwords=["w3", "w4"]).text
    assert many, "as many names as fit"


@pytest.mark.parametrize("size", [1, 999, 1 << 20], ids=["bytes", "odd", "whole"])
def test_chunks_of_any_size_lose_nothing(served: Served, text: Callable[[str, Any], str], size: int) -> None:
    async def conversation(client: AsyncClient) -> Any:
        await client.write_event(Transcribe(language="en").event())
        return await utter(client, PCM[:4000].tobytes(), size=size)

    assert text_of(talk(served, conversation)) == text("en", PCM[:4000])


def test_audio_needs_no_start(served: Served, text: Callable[[str, Any], str]) -> None:
    async def conversation(client: AsyncClient) -> Any:
        await client.write_event(Transcribe(language="en").event())
        return await utter(client, PCM.tobytes(), start=False)

    assert text_of(talk(served, conversation)) == text("en", PCM)


def wide(width: int, channels: int) -> bytes:
    """The same sound with other widths and channels, of which all are the same."""
    shifted = {
        1: ((PCM >> 8) + 128).astype(np.uint8),
        2: PCM,
        3: (PCM.astype("<i4") << 8),
        4: (PCM.astype("<i4") << 16),
    }[width]
    frames = np.repeat(shifted[:, None], channels, axis=1)
    if width == 3:
        return frames.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    return frames.tobytes()


@pytest.mark.parametrize(("width", "channels"), [(2, 2), (3, 1), (4, 1), (3, 2), (4, 6)])
def test_widths_and_channels_do_not_matter(
    served: Served, text: Callable[[str, Any], str], width: int, channels: int
) -> None:
    async def conversation(client: AsyncClient) -> Any:
        await client.write_event(Transcribe(language="en").event())
        return await utter(client, wide(width, channels), 16_000, width, channels, size=1001)

    assert text_of(talk(served, conversation)) == text("en", PCM)


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_other_rates_are_resampled(served: Served, rate: int, text: Callable[[str, Any], str]) -> None:
    """In chunks, to the same samples as the whole at once."""
    other = (soxr.resample(voice(1.0), 16_000, rate) * 32768).astype("<i2")
    whole = soxr.resample(other.astype(np.float32) / 32768, rate, 16_000)

    async def conversation(client: AsyncClient) -> Any:
        await client.write_event(Transcribe(language="en").event())
        return await utter(client, other.tobytes(), rate, size=777)

    assert text_of(talk(served, conversation)) == text("en", whole * 32768)


def test_eight_bits_are_heard(served: Served) -> None:
    async def conversation(client: AsyncClient) -> Any:
        return await utter(client, wide(1, 1), 16_000, 1)

    assert text_of(talk(served, conversation))


def test_nothing_said_is_no_text(served: Served) -> None:
    async def conversation(client: AsyncClient) -> Any:
        return [await utter(client, b""), await utter(client, b"", start=False), await utter(client, bytes(100))]

    for events in talk(served, conversation):
        assert [one.type for one in events] == ["transcript-start", "transcript", "transcript-stop"]
        assert text_of(events) == ""


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (AudioStart(1_000, 2, 1).event(), "rate 1000, width 2: give 4000 to 768000 Hz"),
        (AudioStart(16_000, 5, 1).event(), "width 5"),
        (AudioStart(16_000, 2, 0).event(), "channels 0: give 1 to 64"),
        (Event("audio-chunk", {}, b"12"), "rate None"),
        (Event("audio-start", {"rate": "16000", "width": 2, "channels": 1}), "rate 16000"),
        (Event("transcribe", {"language": 3}), "are texts"),
    ],
)
def test_a_wrong_event_is_an_error_and_the_end(served: Served, event: Event, message: str) -> None:
    async def conversation(client: AsyncClient) -> Any:
        await client.write_event(event)
        return await said(client)

    [error] = talk(served, conversation)
    assert error.type == "error" and message in error.data["text"] and "\n" not in error.data["text"]


def test_a_language_that_the_model_lacks_is_an_error(served: Served) -> None:
    async def conversation(client: AsyncClient) -> Any:
        await client.write_event(Transcribe(language="fr").event())
        return await utter(client, PCM.tobytes())

    [error] = talk(served, conversation)
    assert error.type == "error" and "does not know the language; choose one of de, en" in error.data["text"]


def raw(served: Served, content: bytes) -> list[dict[str, Any]]:
    """What comes back for bytes."""
    host, _, port = served.wyoming.removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        found = b""
        while part := connection.recv(65536):
            found += part
    return [json.loads(line) for line in found.splitlines() if line.startswith(b"{")]


@pytest.mark.parametrize(
    "content",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\xff\xfe\n",
        b"[1, 2]\n",
        b'{"type": 3}\n',
        b'{"type": "audio-chunk", "data": [1]}\n',
        b'{"type": "describe", "data_length": -1}\n',
        b'{"type": "describe", "data_length": 2000000}\n',
        b'{"type": "audio-chunk", "payload_length": 99999999999}\n',
        b'{"type": "describe", "data_length": 4}\nnull',
        b"[" * 60_000 + b"\n",
        b"x" * 200_000,
        b"no end",
    ],
)
def test_garbage_is_an_error_in_one_line(served: Served, content: bytes) -> None:
    [error, *_] = raw(served, content)
    assert error["type"] == "error"


def test_a_cut_connection_frees_its_place(served: Served) -> None:
    from tests.support.serving import metric

    async def conversation(client: AsyncClient) -> None:
        await client.write_event(AudioStart(16_000, 2, 1).event())
        await client.write_event(AudioChunk(16_000, 2, 1, PCM.tobytes()).event())
        await asyncio.to_thread(until, lambda: metric(served, "edge_asr_places_taken") == 1)
        assert metric(served, "edge_asr_held_bytes") == 64_000

    talk(served, conversation)
    until(lambda: metric(served, "edge_asr_places_taken") == metric(served, "edge_asr_held_bytes") == 0)


def test_a_socket_in_the_file_system_and_what_requests_do_not_name(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(path))
    left.close()

    async def conversation(client: AsyncClient) -> Any:
        return await utter(client, PCM.tobytes())

    options = ("--language", "de", "--hotwords", "w7,w8")
    expected = Transcriber.open(bundle).transcribe(PCM.astype(np.float32) / 32768, "de", hotwords=["w7", "w8"]).text
    with serving(bundle, tmp_path / "served", "--wyoming", f"unix://{path}", *options) as served:
        assert served.wyoming == f"unix://{path}"
        assert text_of(talk(served, conversation)) == expected
        assert served.stop() == 0
    assert not path.exists()
