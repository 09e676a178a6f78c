"""The program that runs on the board. `ssh.Connection` sends its source, with `channel`'s; nothing is installed.

It uses only the standard library and no syntax newer than Python 3.7, so that an old Python can report its version.
The agent keeps everything in one folder of the user's cache, which only that user can read: `files` (named by sha256),
`packages` (this package, named by its wheel's sha256), `environments` (named by the hash of their requirements),
`cache` (optimized graphs), `jobs` (the files of one run) and `speech` (audio, and the transcripts of it). `speech` is
emptied after each run, unless the user keeps it.

A request is one JSON line on standard input, for `put` followed by the file's bytes; one JSON line answers it. Empty
lines only show that an end is alive. When the input ends, or nothing arrives for SILENCE seconds, the connection counts
as cut: the agent then ends the running command and removes its folder.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from typing import Any

from edge_asr_deploy.boards.channel import Channel, Cut, Guard

READY = "edge-deploy agent"
# In the folder `speech`: the user wants it kept.
KEEP = "keep"


class Refused(Exception):
    """The board cannot do what was asked; the text tells the user why."""


class Agent:
    """The requests that a board understands: one method for each."""

    def __init__(self, root: str, channel: Channel) -> None:
        self.root, self.channel = root, channel
        self._wanted: set[str] = set()
        self._private: set[str] = set()
        os.makedirs(root, exist_ok=True)
        # Also where an earlier version made it readable for everybody.
        os.chmod(root, 0o700)
        for name in ("files", "packages", "environments", "jobs", "speech"):
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
        self.clean()
        for name in os.listdir(self._path("environments")):
            if not os.path.isfile(self._path("environments", name, "ready")):
                shutil.rmtree(self._path("environments", name), ignore_errors=True)
        self._guard = Guard(self.clean)

    def clean(self) -> None:
        """Remove what is for one run only: its folder, and the speech unless the user keeps it."""
        _empty(self._path("jobs"))
        if not os.path.isfile(self._path("speech", KEEP)):
            _empty(self._path("speech"))

    def speech(self, files: list[str], keep: bool) -> dict[str, Any]:
        """These files are speech. Unless `keep`, no speech stays here after the run, of this or of an earlier one."""
        self._private |= set(files)
        if keep:
            open(self._path("speech", KEEP), "w").close()
        else:
            _empty(self._path("speech"))
            # Earlier versions kept speech among all files.
            for name in [ending for sha256 in files for ending in (sha256, sha256 + ".partial")]:
                if os.path.isfile(self._path("files", name)):
                    os.remove(self._path("files", name))
        return {}

    def have(self, files: dict[str, int]) -> dict[str, Any]:
        """Which of these files (sha256 and size) are missing, and how many bytes of each have already arrived."""
        self._wanted |= set(files)
        missing = {}
        for sha256, size in files.items():
            path = self._file(sha256)
            if os.path.isfile(path) and (os.path.getsize(path) != size or self._hash(path) != sha256):
                os.remove(path)
            if not os.path.isfile(path):
                missing[sha256] = os.path.getsize(path + ".partial") if os.path.isfile(path + ".partial") else 0
        self._make_room(sum(files[sha256] - arrived for sha256, arrived in missing.items()))
        return {"missing": missing}

    def put(self, sha256: str, size: int, offset: int) -> dict[str, Any]:
        """Receive bytes `offset` to `size` of a file. The file gets its final name only when its hash is right."""
        partial = self._file(sha256) + ".partial"
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
        if self._hash(partial) != sha256:
            os.remove(partial)
            return {"good": False}
        os.replace(partial, self._file(sha256))
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
                    _link(self._file(sha256), os.path.join(inputs, name))
                python = os.path.join(folder, "bin", "python")
                pip = [python, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
                pip += ["--no-deps", "--no-compile", "--only-binary=:all:", "--require-hashes", "-r", file.name]
                pip += ["--no-index", "--find-links", inputs] if wheels else ["--timeout", "15", "--retries", "1"]
                for command in ([sys.executable, "-m", "venv", folder], pip):
                    with tempfile.TemporaryFile() as output:
                        code, log = self._run(command, output, output), _read(output)
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
                _link(self._file(sha256), path)
            python = self._path("environments", environment, "bin", "python")
            variables = dict(os.environ, PYTHONPATH=self._path("packages", package), PYTHONUTF8="1", COLUMNS="1000")
            # Transcripts are speech, too; optimized graphs are not.
            variables.update(EDGE_ASR_CACHE=self._path("speech"), EDGE_ASR_PLAIN_ERRORS="1")
            variables.setdefault("EDGE_ASR_STARTUP_CACHE", self._path("cache", "startup"))
            variables.setdefault("ORT_DISABLE_TELEMETRY", "1")
            words = [word if isinstance(word, str) else os.path.join(job, word["path"]) for word in arguments]
            with tempfile.TemporaryFile(dir=job) as output, tempfile.TemporaryFile(dir=job) as messages:
                command = [python, "-m", "edge_asr_deploy", *words]
                code = self._run(command, output, messages, cwd=job, env=variables)
                return {"code": code, "output": _read(output), "messages": _read(messages), "job": job}
        finally:
            self.clean()

    def _run(self, command: list[str], output: Any, messages: Any, **options: Any) -> int:
        """Run a command in a session of its own; its exit code."""
        options.update(stdin=subprocess.DEVNULL, stdout=output, stderr=messages)
        process = subprocess.Popen(command, start_new_session=True, **options)
        self._guard.started(process)
        try:
            return self.channel.wait(process)
        finally:
            self._guard.ended()

    def _hash(self, path: str) -> str:
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            for chunk in iter(lambda: file.read(1 << 20), b""):
                digest.update(chunk)
                self.channel.alive()
        return digest.hexdigest()

    def _file(self, sha256: str) -> str:
        return self._path("speech" if sha256 in self._private else "files", sha256)

    def _make_room(self, space: int, environment: str = "") -> None:
        """Free `space` bytes by removing files and environments of other runs. Refused if that is not enough."""
        if shutil.disk_usage(self.root).free < space:
            for folder in ("files", "speech"):
                for name in os.listdir(self._path(folder)):
                    path = self._path(folder, name)
                    if os.path.isfile(path) and name != KEEP and name.split(".")[0] not in self._wanted:
                        os.remove(path)
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


def _empty(folder: str) -> None:
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.remove(path)


def _link(path: str, place: str) -> None:
    # onnxruntime refuses a model's data file that has a second hard link.
    place_file = shutil.copyfile if place.endswith("_data") else os.link
    try:
        place_file(path, place)
    except OSError:  # The file system has no hard links.
        shutil.copyfile(path, place)


def _read(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode("utf-8", "replace"))


def serve(root: str, source: int, sink: int) -> None:
    """Answer requests until the connection ends."""
    # For the user only, as speech and texts are.
    os.umask(0o077)
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
