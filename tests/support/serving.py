"""A server process on loopback, and the plainest of clients."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile
import soxr

from tests.support.voice import RATE, voice

BOUNDARY = "b0undary"


@dataclass(frozen=True)
class Served:
    """A running server. `http` is its base address without `/v1`; `folder` is its working and its temporary folder."""

    process: subprocess.Popen[str]
    http: str
    wyoming: str
    folder: Path

    @property
    def port(self) -> int:
        return int(self.http.rpartition(":")[2])

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it, and wait for its end: the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def files(self) -> list[str]:
        """What it left on disk."""
        return [str(path) for path in self.folder.rglob("*")]

    def open_files(self) -> list[str]:
        """Files without a name that it holds in a temporary folder."""
        links = Path(f"/proc/{self.process.pid}/fd").iterdir()
        names = [os.readlink(link) for link in links if link.exists() or link.is_symlink()]
        there = [name for name in names if name.startswith((str(self.folder), tempfile.gettempdir()))]
        return [name for name in there if name != str(errors_of(self.folder))]

    @property
    def errors(self) -> str:
        """What it wrote to standard error."""
        return errors_of(self.folder).read_text()


def errors_of(folder: Path) -> Path:
    """Where the standard error of a server goes: beside its folder, in which it shall leave nothing."""
    return folder.parent / f"{folder.name}.stderr"


@contextmanager
def serving(bundle: Path, folder: Path, *options: str, **variables: str) -> Iterator[Served]:
    """A server for a bundle, until the end of the block. It prints each address when it is ready."""
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1", **variables}
    words = [sys.executable, "-m", "edge_asr_deploy", "serve", str(bundle), *options]
    errors = errors_of(folder)
    with errors.open("w") as written:
        process = subprocess.Popen(
            words, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=written
        )
    try:
        lines = [_line(process, errors)]
        if "--openai" in options and "--wyoming" in options:
            lines.append(_line(process, errors))
        found = dict(re.findall(r"(OpenAI|Wyoming): (\S+?)(?:/v1)? \(", "".join(lines)))
        yield Served(process, found.get("OpenAI", ""), found.get("Wyoming", ""), folder)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
        if process.stdout:
            process.stdout.close()
        process.wait()


def _line(process: subprocess.Popen[str], errors: Path) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the server ended: {errors.read_text()}"
    return line


def sound(seconds: float = 1.0, kind: str = "WAV", rate: int = 16_000, seed: int = 0) -> bytes:
    """What is taken for speech, as a file."""
    # Long sounds repeat themselves: they take long to make.
    file, samples = io.BytesIO(), np.resize(voice(min(seconds, 20.0), seed), round(seconds * RATE))
    soundfile.write(file, soxr.resample(samples, RATE, rate), rate, format=kind)
    return file.getvalue()


def form(fields: Mapping[str, str], recording: bytes | None, name: str = "speech.wav") -> bytes:
    """The body of a form."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    if recording is not None:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        parts.append(head.encode() + recording + b"\r\n")
    return b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """OpenAI's error object, of which the message is one line."""
        found: dict[str, Any] = self.json["error"]
        assert set(found) == {"message", "type", "param", "code"}
        assert "\n" not in found["message"] and found["message"]
        return found


def ask(url: str, body: bytes | None = None, key: str = "", **headers: str) -> Answer:
    """Send a request: a form if there is a body."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        given.setdefault("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
    if key:
        given["Authorization"] = f"Bearer {key}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, given), timeout=900) as answer:
            return Answer(answer.status, answer.read(), dict(answer.headers))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read(), dict(error.headers))


def transcribe(served: Served, recording: bytes, path: str = "transcriptions", **fields: str) -> Answer:
    """Ask for a recording's text."""
    return ask(f"{served.http}/v1/audio/{path}", form(fields, recording))


def metric(served: Served, name: str) -> float:
    """A figure of /metrics; 0 for what was not counted yet."""
    text = ask(f"{served.http}/metrics").body.decode()
    return float([*re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE), 0][0])


def until(condition: Any, seconds: float = 20.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)
