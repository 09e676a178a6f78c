"""The program that runs on the board. `ssh.Connection` sends its source in the command; nothing is installed.

It uses only the standard library and no syntax newer than Python 3.7, so that an old Python can report its version.
The agent keeps everything in one folder of the user's cache: `files` (named by sha256), `packages` (this package, named
by its wheel's sha256), `environments` (named by the hash of their requirements) and `jobs` (the files of one run). A
request is one JSON line on standard input, for `put` followed by the file's bytes; one JSON line answers it. Empty
lines only show that the other end is alive. When the input ends, or nothing arrives for SILENCE seconds, the connection
counts as cut: the agent then ends the running command and removes its folder.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from typing import Any

READY = "edge-deploy agent"
SILENCE = 60.0


class Cut(Exception):
    """The other end of the connection is gone."""


class Refused(Exception):
    """The board cannot do what was asked; the text tells the user why."""


class Channel:
    """Reads requests from one file descriptor and writes answers to another."""

    def __init__(self, source: int, sink: int) -> None:
        self._source, self._sink, self._buffer = source, sink, b""

    def request(self) -> dict[str, Any]:
        """The next request. Raises Cut when the connection has ended."""
        line = b""
        while not line.strip():
            while b"\n" not in self._buffer:
                self._buffer += self._more()
            line, _, self._buffer = self._buffer.partition(b"\n")
        return dict(json.loads(line.decode()))

    def payload(self, size: int) -> Iterator[bytes]:
        """The `size` bytes that follow a request, in chunks."""
        while size:
            self._buffer = self._buffer or self._more()
            chunk, self._buffer = self._buffer[:size], self._buffer[size:]
            size -= len(chunk)
            yield chunk

    def answer(self, content: dict[str, Any]) -> None:
        """Send one answer."""
        data = json.dumps(content).encode() + b"\n"
        while data:
            data = data[os.write(self._sink, data) :]

    def wait(self, process: subprocess.Popen[bytes]) -> int:
        """The exit code of a process. When the connection is cut, the process and all its children are killed."""
        last_sign = time.monotonic()
        try:
            while process.poll() is None:
                ready = select.select([self._source], [], [], 0.1)[0]
                last_sign = time.monotonic() if ready else last_sign
                if (ready and not os.read(self._source, 1 << 16)) or time.monotonic() - last_sign > SILENCE:
                    raise Cut
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return int(process.returncode)

    def _more(self) -> bytes:
        ready = select.select([self._source], [], [], SILENCE)[0]
        data = os.read(self._source, 1 << 18) if ready else b""
        if not data:
            raise Cut
        return data


class Agent:
    """The requests that a board understands: one method for each."""

    def __init__(self, root: str, channel: Channel) -> None:
        self.root, self.channel = root, channel
        self._wanted: set[str] = set()
        for name in ("files", "packages", "environments", "jobs"):
            os.makedirs(self._path(name), exist_ok=True)
        self._lock = open(self._path("lock"), "w")  # noqa: SIM115
        # A run whose connection was just cut needs a moment to end.
        for _ in range(25):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.2)
        else:
            raise Refused("another run is using this board; wait until it has ended")
        # This run holds the lock, so whatever is left here belongs to runs that were killed.
        for name in os.listdir(self._path("jobs")):
            shutil.rmtree(self._path("jobs", name), ignore_errors=True)
        for name in os.listdir(self._path("environments")):
            if not os.path.isfile(self._path("environments", name, "ready")):
                shutil.rmtree(self._path("environments", name), ignore_errors=True)

    def have(self, files: dict[str, int]) -> dict[str, Any]:
        """Which of these files (sha256 and size) are missing, and how many bytes of each have already arrived."""
        self._wanted |= set(files)
        missing = {}
        for sha256, size in files.items():
            path = self._path("files", sha256)
            if os.path.isfile(path) and (os.path.getsize(path) != size or _hash(path) != sha256):
                os.remove(path)
            if not os.path.isfile(path):
                missing[sha256] = os.path.getsize(path + ".partial") if os.path.isfile(path + ".partial") else 0
        self._make_room(sum(files[sha256] - arrived for sha256, arrived in missing.items()))
        return {"missing": missing}

    def put(self, sha256: str, size: int, offset: int) -> dict[str, Any]:
        """Receive bytes `offset` to `size` of a file. The file gets its final name only when its hash is right."""
        partial = self._path("files", sha256 + ".partial")
        try:
            with open(partial, "r+b" if offset else "wb") as file:
                file.seek(offset)
                file.truncate()
                for chunk in self.channel.payload(size - offset):
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            if os.path.isfile(partial):
                os.remove(partial)
            raise
        if _hash(partial) != sha256:
            os.remove(partial)
            return {"good": False}
        os.replace(partial, self._path("files", sha256))
        return {"good": True}

    def package(self, sha256: str) -> dict[str, Any]:
        """Unpack this package's wheel, which is pure Python."""
        folder = self._path("packages", sha256)
        if not os.path.isdir(folder):
            partial = folder + ".partial"
            try:
                with zipfile.ZipFile(self._path("files", sha256)) as wheel:
                    wheel.extractall(partial)
                os.rename(partial, folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return {}

    def environment(self, key: str, requirements: str, wheels: dict[str, str], space: int) -> dict[str, Any]:
        """Make the virtual environment `key` unless it exists, from `wheels` (name and sha256) or from pip's index."""
        folder, ready = self._path("environments", key), self._path("environments", key, "ready")
        if os.path.isfile(ready):
            return {"made": True, "log": ""}
        self._make_room(space, key)
        try:
            with tempfile.TemporaryDirectory(dir=self._path("jobs")) as inputs:
                with open(os.path.join(inputs, "requirements.txt"), "w") as file:
                    file.write(requirements)
                for name, sha256 in wheels.items():
                    _link(self._path("files", sha256), os.path.join(inputs, name))
                python = os.path.join(folder, "bin", "python")
                pip = [python, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
                pip += ["--no-deps", "--no-compile", "--only-binary=:all:", "--requirement", file.name]
                pip += ["--no-index", "--find-links", inputs] if wheels else ["--timeout", "15", "--retries", "1"]
                for command in ([sys.executable, "-m", "venv", folder], pip):
                    with tempfile.TemporaryFile() as output:
                        code, log = self.channel.wait(_start(command, output, output)), _read(output)
                    if code:
                        if os.strerror(errno.ENOSPC) in log:  # pip has no exit code for a full disk.
                            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)
                        return {"made": False, "log": log[-4000:]}
                open(ready, "w").close()
                return {"made": True, "log": ""}
        finally:
            if not os.path.isfile(ready):
                shutil.rmtree(folder, ignore_errors=True)

    def run(self, files: dict[str, str], arguments: list[Any], package: str, environment: str) -> dict[str, Any]:
        """Lay out `files` (path and sha256) in a new folder, the answer's `job`, and run a command on them.

        An argument `{"path": ...}` stands for one of these paths, or for a folder that holds some of them.
        """
        job = tempfile.mkdtemp(dir=self._path("jobs"))
        try:
            for name, sha256 in files.items():
                path = os.path.join(job, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                _link(self._path("files", sha256), path)
            python = self._path("environments", environment, "bin", "python")
            variables = dict(os.environ, PYTHONPATH=self._path("packages", package), EDGE_ASR_CACHE=self._path("cache"))
            variables.update(PYTHONUTF8="1", COLUMNS="1000", EDGE_ASR_PLAIN_ERRORS="1")
            words = [word if isinstance(word, str) else os.path.join(job, word["path"]) for word in arguments]
            with tempfile.TemporaryFile(dir=job) as output, tempfile.TemporaryFile(dir=job) as messages:
                process = _start([python, "-m", "edge_asr_deploy", *words], output, messages, cwd=job, env=variables)
                code = self.channel.wait(process)
                return {"code": code, "output": _read(output), "messages": _read(messages), "job": job}
        finally:
            shutil.rmtree(job, ignore_errors=True)

    def _make_room(self, space: int, environment: str = "") -> None:
        """Free `space` bytes by removing files and environments of other runs. Refused if that is not enough."""
        if shutil.disk_usage(self.root).free < space:
            for name in os.listdir(self._path("files")):
                if name.split(".")[0] not in self._wanted:
                    os.remove(self._path("files", name))
            for name in os.listdir(self._path("environments")) if environment else []:
                if name != environment:
                    shutil.rmtree(self._path("environments", name), ignore_errors=True)
        free = shutil.disk_usage(self.root).free
        if free < space:
            raise Refused(_full(self.root, f"{free // 10**6} MB free, {-(-space // 10**6)} MB needed"))

    def _path(self, *names: str) -> str:
        return os.path.join(self.root, *names)


def describe() -> dict[str, Any]:
    """The facts about this board that the other end needs before it sends requests."""
    return {
        "python": list(sys.version_info[:2]),
        "machine": platform.machine(),
        "bits": 8 * struct.calcsize("P"),
        "system": platform.system(),
        "venv": all(importlib.util.find_spec(name) is not None for name in ("venv", "ensurepip")),
    }


def _full(path: str, detail: str) -> str:
    return f"the board's disk is full ({path}, {detail}); free some space"


def _hash(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _link(path: str, place: str) -> None:
    # onnxruntime refuses a model's data file that has a second hard link.
    place_file = shutil.copyfile if place.endswith("_data") else os.link
    try:
        place_file(path, place)
    except OSError:  # The file system has no hard links.
        shutil.copyfile(path, place)


def _start(command: list[str], output: Any, messages: Any, **options: Any) -> subprocess.Popen[bytes]:
    options.update(stdin=subprocess.DEVNULL, stdout=output, stderr=messages)
    return subprocess.Popen(command, start_new_session=True, **options)


def _read(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode("utf-8", "replace"))


def serve(root: str, source: int, sink: int) -> None:
    """Answer requests until the connection ends."""
    channel = Channel(source, sink)
    os.write(sink, READY.encode() + b"\n")
    try:
        channel.answer(describe())
        request = channel.request()
        try:
            agent = Agent(root, channel)
            while True:
                operation = getattr(agent, request.pop("do"))
                channel.answer(operation(**request))
                request = channel.request()
        except Refused as refusal:
            channel.answer({"refused": str(refusal)})
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = f"{error.filename or root}: {error.strerror or error}"
            channel.answer({"refused": _full(root, "the half-written file was removed") if full else reason})
    except (Cut, BrokenPipeError):
        return


if __name__ == "__main__":
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    serve(os.path.join(cache, "edge-deploy"), 0, 1)
