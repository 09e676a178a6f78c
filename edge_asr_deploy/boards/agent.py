"""What runs on the board. `ssh.Connection` sends this file's source along as the command: nothing is installed for it.

Standard library only, and no syntax newer than Python 3.7, so that a board whose Python is too old can still say so.
Everything lies below one folder, `edge-deploy` in the user's cache: `files` (by sha256), `packages` (this package, by
the sha256 of its wheel), `environments` (by the hash of their requirements) and `jobs` (one run's folder of links).

Protocol, on standard input and output: the agent says READY; then every request is one JSON line (`put` is followed by
the file's bytes), and every answer one JSON line. Empty lines are signs of life: without one for SILENCE seconds, and
when the input ends, the connection counts as cut; what runs is ended and its folder removed.
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
LOCK_PATIENCE = 5.0


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
        while True:
            line, found, rest = self._buffer.partition(b"\n")
            if not found:
                self._buffer += self._more()
                continue
            self._buffer = rest
            if line.strip():
                return dict(json.loads(line.decode()))

    def payload(self, size: int) -> Iterator[bytes]:
        """The `size` bytes after a request, piece by piece."""
        while size:
            piece = self._buffer[:size] if self._buffer else self._more()
            piece, self._buffer = (piece, self._buffer[size:]) if self._buffer else (piece[:size], piece[size:])
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
                if select.select([self._source], [], [], 0.1)[0]:
                    if not os.read(self._source, 1 << 16):
                        raise Cut
                    heard = time.monotonic()
                elif time.monotonic() - heard > SILENCE:
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
        for name in ("files", "packages", "environments"):
            os.makedirs(os.path.join(root, name), exist_ok=True)
        self._lock = open(os.path.join(root, "lock"), "w")  # noqa: SIM115
        # A run whose connection was just cut needs a moment to end.
        deadline = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Refused("another run is busy there; wait until it has ended") from None
                time.sleep(0.2)
        self._clear_stale()

    def have(self, files: dict[str, int]) -> dict[str, Any]:
        """Of these files (sha256 and size) those that are missing, each with the bytes that are there already."""
        self._wanted |= set(files)
        missing = {}
        for sha256, size in files.items():
            path = self._file(sha256)
            if os.path.isfile(path) and (os.path.getsize(path) != size or _hash(path) != sha256):
                os.remove(path)
            if not os.path.isfile(path):
                partial = path + ".partial"
                missing[sha256] = os.path.getsize(partial) if os.path.isfile(partial) else 0
        self._make_room(sum(files[sha256] - there for sha256, there in missing.items()))
        return {"missing": missing}

    def put(self, sha256: str, size: int, offset: int) -> dict[str, Any]:
        """Receive bytes `offset` to `size` of a file; it gets its name when its hash is right."""
        path = self._file(sha256)
        partial = path + ".partial"
        try:
            with open(partial, "r+b" if offset else "wb") as file:
                file.seek(offset)
                file.truncate()
                for piece in self.channel.payload(size - offset):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            os.remove(partial)
            raise
        good = _hash(partial) == sha256
        if good:
            os.replace(partial, path)
        else:
            os.remove(partial)
        return {"good": good}

    def package(self, sha256: str) -> dict[str, Any]:
        """Unpack this package's wheel, which is pure Python."""
        folder = os.path.join(self.root, "packages", sha256)
        if not os.path.isdir(folder):
            partial = folder + ".partial"
            try:
                with zipfile.ZipFile(self._file(sha256)) as wheel:
                    wheel.extractall(partial)
                os.rename(partial, folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return {}

    def environment(self, key: str, requirements: str, wheels: dict[str, str], space: int) -> dict[str, Any]:
        """Make the virtual environment `key` unless it is there, from `wheels` (name and sha256) or else by index."""
        folder = os.path.join(self.root, "environments", key)
        if os.path.isfile(os.path.join(folder, "ready")):
            return {"made": True, "log": ""}
        self._make_room(space, key)
        try:
            with tempfile.TemporaryDirectory(dir=self.root) as inputs:
                with open(os.path.join(inputs, "requirements.txt"), "w") as file:
                    file.write(requirements)
                for name, sha256 in wheels.items():
                    os.link(self._file(sha256), os.path.join(inputs, name))
                python = os.path.join(folder, "bin", "python")
                pip = [python, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
                pip += ["--no-deps", "--only-binary=:all:", "--requirement", file.name]
                pip += ["--no-index", "--find-links", inputs] if wheels else ["--timeout", "15", "--retries", "1"]
                for command in ([sys.executable, "-m", "venv", folder], pip):
                    code, log = self._call(command)
                    if code:
                        if os.strerror(errno.ENOSPC) in log:
                            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)
                        return {"made": False, "log": log[-4000:]}
                open(os.path.join(folder, "ready"), "w").close()
                return {"made": True, "log": ""}
        finally:
            if not os.path.isfile(os.path.join(folder, "ready")):
                shutil.rmtree(folder, ignore_errors=True)

    def run(self, files: dict[str, str], arguments: list[Any], package: str, environment: str) -> dict[str, Any]:
        """Lay `files` (path and sha256) out in a folder of their own and run this package's command line on them.

        Of the arguments, `{"path": ...}` is one of these paths or a folder of them; the answer's `job` is that folder.
        """
        os.makedirs(os.path.join(self.root, "jobs"), exist_ok=True)
        job = tempfile.mkdtemp(dir=os.path.join(self.root, "jobs"))
        try:
            for name, sha256 in files.items():
                path = os.path.join(job, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                try:
                    os.link(self._file(sha256), path)
                except OSError:
                    # A file system without hard links.
                    shutil.copyfile(self._file(sha256), path)
            python = os.path.join(self.root, "environments", environment, "bin", "python")
            variables = {
                **os.environ,
                "PYTHONPATH": os.path.join(self.root, "packages", package),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONUTF8": "1",
                "EDGE_ASR_CACHE": os.path.join(self.root, "cache"),
            }
            words = [word if isinstance(word, str) else os.path.join(job, word["path"]) for word in arguments]
            with open(os.path.join(job, "output"), "w+b") as output, open(os.path.join(job, "messages"), "w+b") as said:
                streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": said}
                command = [python, "-m", "edge_asr_deploy", *words]
                process = subprocess.Popen(command, cwd=job, env=variables, start_new_session=True, **streams)
                code = self.channel.wait(process)
                return {"code": code, "output": _read(output), "messages": _read(said), "job": job}
        finally:
            shutil.rmtree(job, ignore_errors=True)

    def _call(self, command: list[str]) -> tuple[int, str]:
        """Exit code of a command and what it said."""
        with tempfile.TemporaryFile() as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            process = subprocess.Popen(command, start_new_session=True, **streams)
            return self.channel.wait(process), _read(log)

    def _clear_stale(self) -> None:
        """Remove what runs left that were killed: with the lock in hand, no job is anybody's."""
        shutil.rmtree(os.path.join(self.root, "jobs"), ignore_errors=True)
        environments = os.path.join(self.root, "environments")
        for name in os.listdir(environments):
            if not os.path.isfile(os.path.join(environments, name, "ready")):
                shutil.rmtree(os.path.join(environments, name), ignore_errors=True)

    def _make_room(self, space: int, environment: str = "") -> None:
        """Refused when `space` bytes cannot be had, not even without the files and environments of other runs."""
        if shutil.disk_usage(self.root).free < space:
            files = os.path.join(self.root, "files")
            for name in os.listdir(files):
                if name.split(".")[0] not in self._wanted:
                    os.remove(os.path.join(files, name))
            environments = os.path.join(self.root, "environments")
            for name in os.listdir(environments) if environment else []:
                if name != environment:
                    shutil.rmtree(os.path.join(environments, name), ignore_errors=True)
        free = shutil.disk_usage(self.root).free
        if free < space:
            raise Refused(_full(self.root, f"{free // 10**6} MB free, {-(-space // 10**6)} MB needed"))

    def _file(self, sha256: str) -> str:
        return os.path.join(self.root, "files", sha256)


def describe(root: str) -> dict[str, Any]:
    """What the other end must know before it begins."""
    return {
        "python": list(sys.version_info[:2]),
        "machine": platform.machine(),
        "bits": 8 * struct.calcsize("P"),
        "system": platform.system(),
        "venv": all(importlib.util.find_spec(name) is not None for name in ("venv", "ensurepip")),
        "root": root,
    }


def _full(path: str, detail: str) -> str:
    return f"the disk is full there ({path}, {detail}); free some space"


def _hash(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


def _read(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode("utf-8", "replace"))


def serve(root: str, source: int, sink: int) -> None:
    """Answer requests until there are no more."""
    channel = Channel(source, sink)
    os.write(sink, READY.encode() + b"\n")
    try:
        channel.answer(describe(root))
        # Whoever does not like what it hears goes away; nothing was made until here.
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
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                channel.answer({"refused": _full(root, "nothing half-written was left")})
            else:
                channel.answer({"refused": f"{error.filename or root}: {error.strerror or error}"})
    except (Cut, BrokenPipeError):
        return


if __name__ == "__main__":
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    serve(os.path.join(cache, "edge-deploy"), 0, 1)
