"""What runs on the board. `ssh.Connection` sends this file's source along as the command: nothing is installed for it.

Standard library only, and no syntax newer than Python 3.7: a board whose Python is too old can still say so. Below one
folder in the user's cache lie `files` (by sha256), `packages` (this package, by its wheel's sha256), `environments` (by
the hash of their requirements) and `jobs` (one run's links). On standard input comes one JSON line per request (`put`:
and the file's bytes), one JSON line answers it. Empty lines are signs of life: after SILENCE seconds without one,
and when the input ends, the connection counts as cut; what runs is ended and its folder removed.
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
    """The other end is gone."""


class Refused(Exception):
    """What cannot be done here; the text is for the user."""


class Channel:
    """Requests from one file descriptor, answers to another."""

    def __init__(self, source: int, sink: int) -> None:
        self._source, self._sink, self._buffer = source, sink, b""

    def request(self) -> dict[str, Any]:
        """The next request. Cut when none can come any more."""
        line = b""
        while not line.strip():
            while b"\n" not in self._buffer:
                self._buffer += self._more()
            line, _, self._buffer = self._buffer.partition(b"\n")
        return dict(json.loads(line.decode()))

    def payload(self, size: int) -> Iterator[bytes]:
        """The `size` bytes after a request, piece by piece."""
        while size:
            self._buffer = self._buffer or self._more()
            piece, self._buffer = self._buffer[:size], self._buffer[size:]
            size -= len(piece)
            yield piece

    def answer(self, content: dict[str, Any]) -> None:
        """Send one answer."""
        data = json.dumps(content).encode() + b"\n"
        while data:
            data = data[os.write(self._sink, data) :]

    def wait(self, process: subprocess.Popen[bytes]) -> int:
        """The exit code of a process; it is ended with all its children when the other end goes away."""
        heard = time.monotonic()
        try:
            while process.poll() is None:
                ready = select.select([self._source], [], [], 0.1)[0]
                heard = time.monotonic() if ready else heard
                if (ready and not os.read(self._source, 1 << 16)) or time.monotonic() - heard > SILENCE:
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
    """The requests a board understands, one method each."""

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
            raise Refused("another run is busy there; wait until it has ended")
        # With the lock in hand, what killed runs left is nobody's.
        for name in os.listdir(self._path("jobs")):
            shutil.rmtree(self._path("jobs", name), ignore_errors=True)
        for name in os.listdir(self._path("environments")):
            if not os.path.isfile(self._path("environments", name, "ready")):
                shutil.rmtree(self._path("environments", name), ignore_errors=True)

    def have(self, files: dict[str, int]) -> dict[str, Any]:
        """Of these files (sha256 and size) those that are missing, each with the bytes that are there already."""
        self._wanted |= set(files)
        missing = {}
        for sha256, size in files.items():
            path = self._path("files", sha256)
            if os.path.isfile(path) and (os.path.getsize(path) != size or _hash(path) != sha256):
                os.remove(path)
            if not os.path.isfile(path):
                missing[sha256] = os.path.getsize(path + ".partial") if os.path.isfile(path + ".partial") else 0
        self._make_room(sum(files[sha256] - there for sha256, there in missing.items()))
        return {"missing": missing}

    def put(self, sha256: str, size: int, offset: int) -> dict[str, Any]:
        """Receive bytes `offset` to `size` of a file; it gets its name when its hash is right."""
        partial = self._path("files", sha256 + ".partial")
        try:
            with open(partial, "r+b" if offset else "wb") as file:
                file.seek(offset)
                file.truncate()
                for piece in self.channel.payload(size - offset):
                    file.write(piece)
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
        """Make the virtual environment `key` unless it is there, from `wheels` (name and sha256) or else by index."""
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
                    with tempfile.TemporaryFile() as said:
                        code, log = self.channel.wait(_start(command, said, said)), _read(said)
                    if code:
                        if os.strerror(errno.ENOSPC) in log:
                            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)
                        return {"made": False, "log": log[-4000:]}
                open(ready, "w").close()
                return {"made": True, "log": ""}
        finally:
            if not os.path.isfile(ready):
                shutil.rmtree(folder, ignore_errors=True)

    def run(self, files: dict[str, str], arguments: list[Any], package: str, environment: str) -> dict[str, Any]:
        """Lay `files` (path and sha256) out in a folder of their own and run this package's command line on them.

        Of the arguments, `{"path": ...}` is one of these paths or a folder of them; the answer's `job` is that folder.
        """
        job = tempfile.mkdtemp(dir=self._path("jobs"))
        try:
            for name, sha256 in files.items():
                path = os.path.join(job, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                _link(self._path("files", sha256), path)
            python = self._path("environments", environment, "bin", "python")
            variables = dict(os.environ, PYTHONPATH=self._path("packages", package), EDGE_ASR_CACHE=self._path("cache"))
            variables.update(PYTHONUTF8="1", COLUMNS="1000")
            words = [word if isinstance(word, str) else os.path.join(job, word["path"]) for word in arguments]
            with open(os.path.join(job, "output"), "w+b") as output, open(os.path.join(job, "messages"), "w+b") as said:
                process = _start([python, "-m", "edge_asr_deploy", *words], output, said, cwd=job, env=variables)
                code = self.channel.wait(process)
                return {"code": code, "output": _read(output), "messages": _read(said), "job": job}
        finally:
            shutil.rmtree(job, ignore_errors=True)

    def _make_room(self, space: int, environment: str = "") -> None:
        """Refused when `space` bytes cannot be had, not even without the files and environments of other runs."""
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
    """What the other end must know before it begins."""
    return {
        "python": list(sys.version_info[:2]),
        "machine": platform.machine(),
        "bits": 8 * struct.calcsize("P"),
        "system": platform.system(),
        "venv": all(importlib.util.find_spec(name) is not None for name in ("venv", "ensurepip")),
    }


def _full(path: str, detail: str) -> str:
    return f"the disk is full there ({path}, {detail}); free some space"


def _hash(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _link(path: str, place: str) -> None:
    # onnxruntime refuses a model's data file that has a second name.
    give = shutil.copyfile if place.endswith("_data") else os.link
    try:
        give(path, place)
    except OSError:  # A file system without hard links.
        shutil.copyfile(path, place)


def _start(command: list[str], output: Any, messages: Any, **more: Any) -> subprocess.Popen[bytes]:
    more.update(stdin=subprocess.DEVNULL, stdout=output, stderr=messages)
    return subprocess.Popen(command, start_new_session=True, **more)


def _read(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode("utf-8", "replace"))


def serve(root: str, source: int, sink: int) -> None:
    """Answer requests until there are no more."""
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
            channel.answer({"refused": _full(root, "nothing half-written was left") if full else reason})
    except (Cut, BrokenPipeError):
        return


if __name__ == "__main__":
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    serve(os.path.join(cache, "edge-deploy"), 0, 1)
