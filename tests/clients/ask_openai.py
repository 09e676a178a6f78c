"""`python ask_openai.py BASE_URL CLIP [--times] [--long RECORDING]`: all that OpenAI's own package asks of a server.

The answers go to stdout as JSON. It imports nothing of ours: this is what a user of the package writes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import openai


def failure(call: Any) -> list[str]:
    """The kind and the message of what a call raises."""
    try:
        call()
    except openai.APIError as error:
        return [type(error).__name__, error.body["message"] if isinstance(error.body, dict) else str(error)]
    raise AssertionError("it was answered")


def long(client: openai.OpenAI, recording: Path) -> dict[str, Any]:
    """The deltas of a recording of several windows, and when each event came, in seconds."""
    deltas, times, done = list[str](), list[float](), ""
    started = time.perf_counter()
    for event in client.audio.transcriptions.create(file=recording, model="whisper-1", stream=True):
        times.append(time.perf_counter() - started)
        if event.type == "transcript.text.delta":
            deltas.append(event.delta)
        elif event.type == "transcript.text.done":
            done = event.text
    whole = client.audio.transcriptions.create(file=recording, model="whisper-1").text
    return {"deltas": deltas, "times": times, "done": done, "whole": whole}


def main(url: str, path: str) -> dict[str, Any]:
    """All of it."""
    clip = Path(path)
    client = openai.OpenAI(base_url=url, api_key="secret", max_retries=0)
    create = client.audio.transcriptions.create
    found: dict[str, Any] = {
        "models": [one.id for one in client.models.list()],
        "retrieved": client.models.retrieve("whisper-1").id,
        "json": create(file=clip, model="whisper-1").text,
        "seconds": create(file=clip, model="whisper-1").usage.seconds,
        "text": create(file=clip, model="whisper-1", response_format="text"),
        "language": create(file=clip, model="whisper-1", language="en", temperature=0).text,
    }
    with clip.open("rb") as file:
        found["opened"] = create(file=file, model="whisper-1").text
    found["bytes"] = create(file=("speech.flac", clip.read_bytes(), "audio/flac"), model="whisper-1").text
    events = list(create(file=clip, model="whisper-1", stream=True))
    found["deltas"] = [one.delta for one in events if one.type == "transcript.text.delta"]
    found["done"] = [one.text for one in events if one.type == "transcript.text.done"]

    if "--long" in sys.argv:
        found["long"] = long(client, Path(sys.argv[sys.argv.index("--long") + 1]))

    async def at_once() -> list[str]:
        async with openai.AsyncOpenAI(base_url=url, api_key="secret") as many:
            asked = [many.audio.transcriptions.create(file=clip, model="whisper-1") for _ in range(16)]
            return [answer.text for answer in await asyncio.gather(*asked)]

    found["at once"] = asyncio.run(at_once())
    if "--times" in sys.argv:
        kinds = ["segment", "word"]
        verbose = create(file=clip, model="whisper-1", response_format="verbose_json", timestamp_granularities=kinds)
        found["verbose"] = verbose.model_dump()
        found["plain verbose"] = create(file=clip, model="whisper-1", response_format="verbose_json").model_dump()
        found |= {kind: create(file=clip, model="whisper-1", response_format=kind) for kind in ("srt", "vtt")}
        found["prompt"] = create(file=clip, model="whisper-1", prompt="A story of a dinner.").text
    wrong = openai.OpenAI(base_url=url, api_key="wrong", max_retries=0)
    found["failures"] = {
        "key": failure(lambda: wrong.models.list()),
        "model": failure(lambda: create(file=clip, model="large-v3")),
        "language": failure(lambda: create(file=clip, model="whisper-1", language="de")),
        "format": failure(lambda: create(file=clip, model="whisper-1", response_format="diarized_json")),
        "audio": failure(lambda: create(file=("a.wav", b"no audio at all"), model="whisper-1")),
        "prompt": failure(lambda: create(file=clip, model="whisper-1", prompt="word " * 400)),
        "translation": failure(lambda: client.audio.translations.create(file=clip, model="whisper-1")),
        "stream": failure(lambda: list(create(file=("a.wav", b"no audio"), model="whisper-1", stream=True))),
    }
    return found


if __name__ == "__main__":
    json.dump(main(*sys.argv[1:3]), sys.stdout)
