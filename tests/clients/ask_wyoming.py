"""`python ask_wyoming.py URI CLIP.wav [N]`: what Wyoming's own client hears of a server, as JSON on stdout.

The conversation is the one of Home Assistant's integration: a connection, `transcribe`, `audio-start`, chunks of 16-bit
sound, `audio-stop`, and events until `transcript`. N of them are held one after the other, and then all at once. Then
the file is played in real time, and the chunks of text are taken as they come.
"""

from __future__ import annotations

import asyncio
import json
import sys
import wave
from typing import Any

from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStop
from wyoming.audio import AudioChunk, AudioStop, wav_to_chunks
from wyoming.client import AsyncClient
from wyoming.error import Error
from wyoming.info import Describe, Info


async def describe(uri: str) -> dict[str, Any]:
    """What the server says of itself."""
    async with AsyncClient.from_uri(uri) as client:
        await client.write_event(Describe().event())
        event = await client.read_event()
        assert event is not None
        return Info.from_event(event).to_dict()


async def hear(uri: str, path: str, language: str) -> str:
    """The text of a WAV file, or an error's."""
    async with AsyncClient.from_uri(uri) as client:
        await client.write_event(Transcribe(language=language).event())
        with wave.open(path) as sound:
            for chunk in wav_to_chunks(sound, 1024, start_event=True, stop_event=True):
                await client.write_event(chunk.event())
        text = ""
        while (event := await client.read_event()) is not None:
            if Transcript.is_type(event.type):
                return Transcript.from_event(event).text
            if Error.is_type(event.type):
                text = Error.from_event(event).text
        return f"connection lost: {text}"


async def live(uri: str, path: str) -> dict[str, Any]:
    """The chunks of a WAV file that is played in real time: those before its end, all of them, and the transcript."""
    ended, early, chunks = False, list[str](), list[str]()
    async with AsyncClient.from_uri(uri) as client:

        async def play() -> None:
            nonlocal ended
            await client.write_event(Transcribe(language="en").event())
            with wave.open(path) as sound:
                for event in wav_to_chunks(sound, 1024, start_event=True, stop_event=True):
                    ended = ended or AudioStop.is_type(event.event().type)
                    await client.write_event(event.event())
                    if isinstance(event, AudioChunk):
                        await asyncio.sleep(event.seconds)

        playing = asyncio.create_task(play())
        kinds = []
        while (event := await client.read_event()) is not None:
            kinds.append(event.type)
            if TranscriptChunk.is_type(event.type):
                chunks.append(TranscriptChunk.from_event(event).text)
                early += [] if ended else chunks[-1:]
            elif Transcript.is_type(event.type):
                text = Transcript.from_event(event).text
            elif TranscriptStop.is_type(event.type):
                break
        await playing
    return {"kinds": kinds, "early": early, "chunks": chunks, "text": text}


async def main(uri: str, path: str, number: str = "2") -> dict[str, Any]:
    """All of it."""
    return {
        "info": await describe(uri),
        "texts": [await hear(uri, path, "en") for _ in range(int(number))],
        "at once": await asyncio.gather(*(hear(uri, path, "en") for _ in range(int(number)))),
        "live": await live(uri, path),
        "language": await hear(uri, path, "de"),
    }


if __name__ == "__main__":
    json.dump(asyncio.run(main(*sys.argv[1:])), sys.stdout)
