"""One side of `benchmarks.stream_latency`: plays clips in real time into a stream, in the environment of its engine.

It is run as a file, since the rival's environment does not have this package: `python stream_player.py ENGINE MODEL
THREADS`. Each line of its input is a file of float32 samples at 16 kHz; each line of its output is JSON with the
seconds from the end of speech to the final text, and the text.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from time import perf_counter, sleep
from typing import Any

import numpy as np

RATE, BLOCK = 16_000, 1_600


def ours(model: str, threads: int) -> Callable[[], tuple[Callable[[Any], None], Callable[[], str]]]:
    """Streams of a bundle: a function for blocks, and one for the end."""
    from edge_asr_deploy import Transcriber
    from edge_asr_deploy.runtime.live.events import Final

    transcriber = Transcriber.open(model, threads=threads)

    def begin() -> tuple[Callable[[Any], None], Callable[[], str]]:
        stream, texts = transcriber.stream(), list[str]()

        def take(events: list[Any]) -> None:
            texts.extend(event.segment.text for event in events if isinstance(event, Final))

        def end() -> str:
            take(stream.finish())
            return " ".join(texts)

        return lambda block: take(stream.push(block)), end

    return begin


def moonshine_voice(model: str, threads: int) -> Callable[[], tuple[Callable[[Any], None], Callable[[], str]]]:
    """The same of moonshine-voice with its default options; its threads are those of the processor it may use."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    from moonshine_voice.transcriber import ModelArch, Transcriber  # type: ignore[import-not-found]

    transcriber = Transcriber(model, ModelArch.TINY)

    def begin() -> tuple[Callable[[Any], None], Callable[[], str]]:
        stream = transcriber.create_stream()
        stream.start()

        def end() -> str:
            text = " ".join(line.text for line in stream.stop().lines)
            stream.close()
            return text

        return lambda block: stream.add_audio(block.tolist(), RATE), end

    return begin


def main() -> None:
    """Answer until the input ends."""
    engine, model, threads = sys.argv[1:4]
    begin = {"ours": ours, "moonshine-voice": moonshine_voice}[engine](model, int(threads))
    for line in sys.stdin:
        samples = np.load(line.strip())
        push, end = begin()
        started = perf_counter()
        for index in range(0, len(samples), BLOCK):
            block = samples[index : index + BLOCK]
            sleep(max(0.0, started + (index + len(block)) / RATE - perf_counter()))
            push(block)
        spoken = started + len(samples) / RATE
        text = end()
        print(json.dumps({"seconds": perf_counter() - spoken, "text": text}), flush=True)


if __name__ == "__main__":
    main()
