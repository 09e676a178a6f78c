"""The agent's end of the connection, and the end of what runs on the board. Part of the agent: see `agent`.

It uses only the standard library and no syntax newer than Python 3.7.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

SILENCE = 60.0
# The other end gives the board up after SILENCE seconds without a byte; a busy agent sends an empty line this often.
SIGN_SECONDS = 5.0


class Cut(Exception):
    """The other end of the connection is gone."""


class Channel:
    """Reads requests from one file descriptor and writes answers to another."""

    def __init__(self, source: int, sink: int) -> None:
        self._source, self._sink, self._buffer = source, sink, b""
        self._last_sign = 0.0

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
        self._send(json.dumps(content).encode() + b"\n")

    def alive(self) -> None:
        """Show the other end, at times, that the work goes on. Raises Cut when it is gone."""
        if time.monotonic() - self._last_sign > SIGN_SECONDS:
            try:
                self._send(b"\n")
            except BrokenPipeError:
                raise Cut from None

    def wait(self, process: subprocess.Popen[bytes]) -> int:
        """The exit code of a process. When the connection is cut, the process and all its children are killed."""
        last_sign = time.monotonic()
        try:
            while process.poll() is None:
                ready = select.select([self._source], [], [], 0.1)[0]
                last_sign = time.monotonic() if ready else last_sign
                if (ready and not os.read(self._source, 1 << 16)) or time.monotonic() - last_sign > SILENCE:
                    raise Cut
                self.alive()
        finally:
            kill_session(process.pid)
            process.wait()
        return int(process.returncode)

    def _send(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._sink, data) :]
        self._last_sign = time.monotonic()

    def _more(self) -> bytes:
        ready = select.select([self._source], [], [], SILENCE)[0]
        data = os.read(self._source, 1 << 18) if ready else b""
        if not data:
            raise Cut
        return data


def kill_session(session: int) -> None:
    """Kill every process of a session: a command's workers have process groups of their own."""
    for _ in range(100):
        members = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _session(pid) == session]
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        if not members:
            return
        time.sleep(0.02)


def _session(pid: int) -> int:
    """The session of a process; 0 for one that has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name before the last bracket may hold anything.
            state, _, _, session = file.read().rpartition(b")")[2].split()[:4]
    except (OSError, ValueError):
        return 0
    return 0 if state in (b"Z", b"X") else int(session)


class Guard:
    """A small process beside the agent. When the agent ends, however that happens, it ends what still runs.

    The kernel kills without a word when memory is short, and then the agent cannot do it. The guard was forked while
    the agent held the board's lock, so the next run waits until the guard, too, has ended.
    """

    def __init__(self, clean: Callable[[], None]) -> None:
        reading, self._writing = os.pipe()
        if os.fork():
            os.close(reading)
            return
        try:
            os.close(self._writing)
            os.setsid()
            # sshd waits for whoever holds its pipes.
            nowhere = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nowhere, descriptor)
            _watch(reading)
            clean()
        finally:
            os._exit(0)

    def started(self, process: subprocess.Popen[bytes]) -> None:
        """A process that leads its session was started."""
        os.write(self._writing, b"%d\n" % process.pid)
        try:
            with open(f"/proc/{process.pid}/oom_score_adj", "w") as file:
                # Where memory is short, the command goes first; its agent can then say so.
                file.write("500")
        except OSError:
            return

    def ended(self) -> None:
        """The process that was started last is gone."""
        os.write(self._writing, b"0\n")


def _watch(reading: int) -> None:
    """Read what the agent starts until the agent is gone; end what it left."""
    with os.fdopen(reading, "rb") as pipe:
        running = 0
        for line in pipe:
            running = int(line)
    if running:
        kill_session(running)
