"""End of speech to final text over Wyoming, ours beside wyoming-faster-whisper: `python -m benchmarks.wyoming_latency`.

Each server is a process; a client plays voice commands to it in real time, as a satellite does, and measures from the
event `audio-stop` to the event `transcript`. The servers take turns, clip by clip; while one hears, the others wait.

    python -m venv /some/venv && /some/venv/bin/pip install wyoming-faster-whisper==3.8.1
    python -m benchmarks.wyoming_latency BUNDLE --rival /some/venv/bin/python --model CTRANSLATE2_FOLDER --threads 1,2

The folder for CTranslate2 has the same weights, of any type: the rival makes int8 of them when it loads them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles

import numpy as np
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient

from edge_asr_deploy.corpora.defaults import evaluation_corpus
from edge_asr_deploy.corpora.normalize import normalizer_for
from edge_asr_deploy.corpora.utterance import SAMPLE_RATE, Utterance
from edge_asr_deploy.harness.evaluation.wer import count, pooled

# Home Assistant sends what its satellites send: 1024 samples, 64 ms.
CHUNK = 1024
SHORTEST, LONGEST = 1.5, 4.0
# Commands that warm a server up and are not counted.
FIRST = 2


@dataclass(frozen=True)
class Server:
    """A running server, by its name in the table."""

    name: str
    threads: int
    uri: str
    process: subprocess.Popen[bytes]


@dataclass(frozen=True)
class Heard:
    """A command: seconds of speech, seconds from its end to its text, and the text."""

    server: str
    threads: int
    clip: str
    seconds: float
    latency: float
    text: str


def commands(number: int) -> list[Utterance]:
    """Clips as long as voice commands, evenly spread by length over all evaluation speech."""
    corpus = [one for one in evaluation_corpus()[0] if one.text and SHORTEST <= (one.seconds or 0) <= LONGEST]
    ordered = sorted(corpus, key=lambda one: (one.seconds, one.id))
    number = min(number, len(ordered))
    return [ordered[int((index + 0.5) * len(ordered) / number)] for index in range(number)]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@contextmanager
def running(name: str, threads: int, words: Sequence[str], uri: str) -> Iterator[Server]:
    """A server process, from when it can be connected to."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        host, _, port = uri.removeprefix("tcp://").rpartition(":")
        for _ in range(1200):
            if process.poll() is not None:
                raise SystemExit(f"{name}: the server ended: {' '.join(words)}")
            try:
                socket.create_connection((host, int(port))).close()
                break
            except OSError:
                time.sleep(0.1)
        yield Server(name, threads, uri, process)
    finally:
        process.terminate()
        process.wait()


def ours(bundle: Path, threads: int) -> tuple[list[str], str]:
    """The command and the address of our server."""
    uri = f"tcp://127.0.0.1:{free_port()}"
    words = [sys.executable, "-m", "edge_asr_deploy", "serve", str(bundle), "--wyoming", uri]
    return [*words, "--threads", str(threads)], uri


def rivals(python: Path, model: Path, threads: int) -> tuple[list[str], str]:
    """The same of wyoming-faster-whisper, decoding greedily as ours does."""
    uri = f"tcp://127.0.0.1:{free_port()}"
    words = [str(python), "-m", "wyoming_faster_whisper", "--uri", uri, "--model", str(model), "--language", "en"]
    words += ["--data-dir", str(model.parent), "--compute-type", "int8", "--beam-size", "1", "--local-files-only"]
    return [*words, "--cpu-threads", str(threads), "--stt-library", "faster-whisper"], uri


async def play(server: Server, clip: Utterance) -> Heard:
    """Play a clip in real time, and wait for its text."""
    sound = (np.clip(clip.samples(), -1, 1) * 32767).astype("<i2")
    form = {"rate": SAMPLE_RATE, "width": 2, "channels": 1}
    async with AsyncClient.from_uri(server.uri) as client:
        await client.write_event(Transcribe(language="en").event())
        await client.write_event(AudioStart(**form).event())
        began = time.perf_counter()
        for place in range(0, len(sound), CHUNK):
            piece = sound[place : place + CHUNK]
            # A chunk can be sent when its last sample was spoken.
            await asyncio.sleep(began + (place + len(piece)) / SAMPLE_RATE - time.perf_counter())
            await client.write_event(AudioChunk(**form, audio=piece.tobytes()).event())
        await client.write_event(AudioStop().event())
        ended = time.perf_counter()
        while (event := await client.read_event()) is not None:
            if Transcript.is_type(event.type):
                text = Transcript.from_event(event).text
                latency = time.perf_counter() - ended
                return Heard(server.name, server.threads, clip.id, len(sound) / SAMPLE_RATE, latency, text)
    raise SystemExit(f"{server.name}: no text for {clip.id}")


def measure(servers: Sequence[Server], clips: Sequence[Utterance]) -> list[Heard]:
    """Play every clip to every server in turns."""
    found = []
    for number, clip in enumerate([*clips[:FIRST], *clips]):
        for server in servers:
            heard = asyncio.run(play(server, clip))
            if number >= FIRST:
                found.append(heard)
                print(f"{server.name} {server.threads}: {heard.latency:.3f} s", file=sys.stderr)
    return found


def table(found: Sequence[Heard], clips: Sequence[Utterance]) -> str:
    """Median and 90th percentile of every server, the word error rate, and the ratio to the rival."""
    normalize = normalizer_for("en")
    texts = {clip.id: normalize(clip.text or "") for clip in clips}
    rows = [
        "| server | threads | p50, s | p90, s | WER, % | ours / rival, p50 | p90 |",
        "|---|---|---|---|---|---|---|",
    ]
    figures = {}
    for key in dict.fromkeys((one.server, one.threads) for one in found):
        mine = [one for one in found if (one.server, one.threads) == key]
        times = [one.latency for one in mine]
        wer = pooled(count(texts[one.clip], normalize(one.text)) for one in mine).wer
        figures[key] = (median(times), quantiles(times, n=10)[-1], 100 * wer)
    for (name, threads), (middle, high, wer) in figures.items():
        rival = figures.get((RIVAL, threads))
        shares = f"{middle / rival[0]:.2f} | {high / rival[1]:.2f}" if rival and name != RIVAL else "|"
        rows.append(f"| {name} | {threads} | {middle:.3f} | {high:.3f} | {wer:.1f} | {shares} |")
    return "\n".join(rows)


RIVAL = "wyoming-faster-whisper int8"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--rival", type=Path, help="python of the environment of wyoming-faster-whisper")
    parser.add_argument("--model", type=Path, help="the same weights for CTranslate2")
    parser.add_argument("--threads", default="1,2", help="threads, separated by commas")
    parser.add_argument("--number", type=int, default=20, help="commands")
    parser.add_argument("--output", type=Path, help="file for all figures, as JSON lines")
    given = parser.parse_args()
    clips, found = commands(given.number), list[Heard]()
    print(f"{len(clips)} commands of {SHORTEST} to {LONGEST} s; load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    for threads in map(int, re.findall(r"\d+", given.threads)):
        with ExitStack() as stack:
            servers = []
            for bundle in given.bundles:
                words, uri = ours(bundle, threads)
                servers.append(stack.enter_context(running(bundle.name, threads, words, uri)))
            if given.rival:
                words, uri = rivals(given.rival, given.model, threads)
                servers.append(stack.enter_context(running(RIVAL, threads, words, uri)))
            found += measure(servers, clips)
    if given.output:
        given.output.write_text("".join(json.dumps(asdict(one)) + "\n" for one in found))
    print(table(found, clips))


if __name__ == "__main__":
    main()
