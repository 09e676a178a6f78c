"""A connection to a board through the user's own `ssh`, with the keys, known hosts and jump hosts configured there."""

from __future__ import annotations

import base64
import errno
import ipaddress
import json
import os
import re
import subprocess
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from edge_asr_deploy.boards.agent import READY
from edge_asr_deploy.boards.answers import DESCRIBE, NoAnswer, parse
from edge_asr_deploy.boards.pipes import Lines, Stuck, write_all
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.printing import one_line

OPTION = "--on"
PING_SECONDS = 10.0
CHUNK = 1 << 18
# An agent at work shows itself every few seconds (`channel.SIGN_SECONDS`), unless a slow card makes it wait.
ANSWER_SECONDS = 120.0
# The results of 30,000 utterances, each with its texts.
LONGEST_ANSWER = 64_000_000
# What a board's shell may print at login, and the time until the agent answers: a hardware key waits for a finger.
GREETING_BYTES = 1_000_000
GREETING_SECONDS = 120.0
# BatchMode: a password prompt would hang a script. The others detect a dead network within a minute.
_OPTIONS = ("BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=4")
# ssh uses exit code 255 for every failure: only its message (English under LC_ALL=C) tells the failures apart. Each
# pattern comes with the remedy; the first match counts.
_FAULTS = (
    (
        r"IDENTIFICATION HAS CHANGED",
        "its host key has changed; if you expect that, drop the old one with `ssh-keygen -R`",
    ),
    (
        r"Host key verification failed",
        "its host key is not known; connect once with `ssh`, compare and accept the key",
    ),
    (r"Permission denied|Too many authentication", "it accepts none of your keys; copy yours there with `ssh-copy-id`"),
    (r"Could not resolve hostname", "there is no host of this name; correct the address"),
    (r"Connection refused", "no SSH server listens on this port; start the server, or correct the port"),
    (r"timed out|No route to host|unreachable", "the host cannot be reached; switch it on, or check the network"),
)


@dataclass(frozen=True)
class Board:
    """`[user@]host[:port]`. The host may be an alias from the user's SSH configuration.

    IPv6 is written `[::1]`, or without brackets where no port follows.
    """

    destination: str
    port: int | None
    name: str

    @classmethod
    def parse(cls, text: str) -> Board:
        """Parse an address. UserError when it is malformed."""
        match = re.fullmatch(
            r"(?P<user>[^\s@:-][^\s@:]*@)?(?P<host>[\w.-]+|\[[0-9a-fA-F:.%\w]+\])(:(?P<port>\d+))?", text
        )
        user, _, bare = text.rpartition("@")
        if match is None and _is_ipv6(bare) and re.fullmatch(r"([^\s@:-][^\s@:]*)?", user):
            return cls(text, None, text)
        port = int(match["port"]) if match and match["port"] else None
        if match is None or match["host"].startswith("-") or not (port is None or 0 < port < 65536):
            raise UserError(OPTION, text, "is not an address; give user@host, user@host:port or user@[IPv6]:port")
        return cls(f"{match['user'] or ''}{match['host'].strip('[]')}", port, text)


class Connection:
    """A connection to the agent on one board, used as a context manager; `about` is what `agent.describe` returned.

    UserError with the reason when the connection fails or is cut, and when the board refuses a request.
    """

    def __init__(self, board: Board) -> None:
        self.board = board
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._ssh_messages = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        packed = base64.b64encode(zlib.compress(_program().encode(), 9)).decode()
        # No shell interprets any character of base64 inside double quotes.
        code = f"import base64,zlib;exec(compile(zlib.decompress(base64.b64decode('{packed}')),'agent','exec'))"
        port = [] if board.port is None else ["-p", str(board.port)]
        options = [word for option in _OPTIONS for word in ("-o", option)]
        try:
            # A process group of its own: Ctrl-C then reaches only the parent, which closes its connections itself.
            self._process = subprocess.Popen(
                ["ssh", "-T", *options, *port, "--", board.destination, f'python3 -c "{code}"'],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._ssh_messages,
                bufsize=0,
                env={**os.environ, "LC_ALL": "C"},
                process_group=0,
            )
        except FileNotFoundError:
            raise UserError(OPTION, board.name, "this machine has no `ssh`; install the OpenSSH client") from None
        assert self._process.stdin is not None and self._process.stdout is not None
        self._sink = self._process.stdin.fileno()
        os.set_blocking(self._sink, False)
        self._lines = Lines(self._process.stdout.fileno(), LONGEST_ANSWER)
        try:
            self._greet()
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._ping, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, operation: str, **request: Any) -> dict[str, Any]:
        """Send the agent a request and return its answer."""
        self._send(json.dumps({"do": operation, **request}).encode() + b"\n")
        return self._answer(operation)

    def put(self, path: Path, sha256: str, offset: int, progress: Callable[[int], None] = lambda size: None) -> None:
        """Copy a file from byte `offset` on, and call `progress` with the number of bytes of every chunk.

        UserError if the file changes during the copy.
        """
        size = path.stat().st_size
        with path.open("rb") as file, self._lock:
            file.seek(offset)
            self._write(json.dumps({"do": "put", "sha256": sha256, "size": size, "offset": offset}).encode() + b"\n")
            remaining = size - offset
            while remaining and (chunk := file.read(min(CHUNK, remaining))):
                self._write(chunk)
                remaining -= len(chunk)
                progress(len(chunk))
        if remaining:
            self.fail(f"{path} became shorter while it was copied; run it again")
        if self._answer("put")["good"]:
            return
        if not offset:
            self.fail(f"{path} changed while it was copied; run it again")
        # The bytes that the board already had belong to another file: start again from the beginning.
        self.put(path, sha256, 0, progress)

    def fail(self, reason: str) -> NoReturn:
        """Raise the UserError that names this board."""
        raise UserError(OPTION, self.board.name, one_line(reason))

    def close(self) -> None:
        """End the connection. The agent then ends whatever still runs on the board."""
        self._closed.set()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._ssh_messages):
            try:
                if pipe is not None:
                    pipe.close()
            except (BrokenPipeError, ValueError):
                # The process is dead, so data that it never read may be dropped.
                continue

    def _greet(self) -> None:
        # The board's shell may print its own lines at login before the agent starts.
        printed, deadline = 0, time.monotonic() + GREETING_SECONDS
        while (line := self._line(deadline - time.monotonic())) is not None:
            if line.decode(errors="replace").strip() == READY:
                self.about = self._answer(DESCRIBE)
                return
            printed += len(line) + 1
            if printed > GREETING_BYTES or time.monotonic() > deadline:
                self.fail("its shell prints at login without end; mend the shell's start-up files")
        self._diagnose()

    def _diagnose(self) -> NoReturn:
        """Raise the UserError that says why no agent answered."""
        code = self._process.wait()
        message = self._read_ssh_messages()
        for pattern, remedy in _FAULTS:
            if code == 255 and re.search(pattern, message):
                self.fail(remedy)
        if code in (126, 127):
            self.fail("it has no python3; install Python 3.11 or newer with venv")
        self.fail(f"ssh ended with code {code} ({_last_line(message) or 'no message'})")

    def _read_ssh_messages(self) -> str:
        try:
            self._ssh_messages.seek(0)
            return self._ssh_messages.read().decode(errors="replace")
        except ValueError:
            # Closed by another thread.
            return ""

    def _send(self, data: bytes) -> None:
        with self._lock:
            self._write(data)

    def _write(self, data: bytes) -> None:
        """Send bytes. A broken connection is ignored here, because `_answer` reports the reason."""
        try:
            write_all(self._sink, data, ANSWER_SECONDS)
        except (BrokenPipeError, ValueError):
            return
        except Stuck as stuck:
            self._give_up(stuck)
        except OSError as error:
            # Closed by another thread.
            if error.errno != errno.EBADF:
                raise

    def _line(self, seconds: float) -> bytes | None:
        try:
            return self._lines.next(max(0.0, seconds))
        except Stuck as stuck:
            self._give_up(stuck)
        except (ValueError, OSError):
            # Closed by another thread.
            return None

    def _give_up(self, stuck: Stuck) -> NoReturn:
        self._process.kill()
        self.fail(f"{stuck}, so it was given up; see what it is busy with, and run the command again")

    def _answer(self, operation: str) -> dict[str, Any]:
        line: bytes | None = b""
        while line is not None and not line.strip():
            line = self._line(ANSWER_SECONDS)
        if line is None:
            last_line = _last_line(self._read_ssh_messages())
            detail = f" ({last_line})" if last_line else ""
            self.fail(f"the connection was cut{detail}; run the command again, copied files are kept")
        try:
            answer = parse(operation, line)
        except NoAnswer as error:
            self.fail(f"its answer to `{operation}` is malformed ({error}); check what its python3 and its shell run")
        if "refused" in answer:
            self.fail(answer["refused"])
        return answer

    def _ping(self) -> None:
        """Send empty lines regularly: the agent takes a long silence for a cut connection."""
        # The thread that waits for an answer reports a board that takes nothing.
        with suppress(UserError):
            while not self._closed.wait(PING_SECONDS):
                self._send(b"\n")


def _program() -> str:
    """The agent and the module that it imports, as one program."""
    folder = resources.files("edge_asr_deploy.boards")
    channel, agent = (folder.joinpath(name).read_text(encoding="utf-8") for name in ("channel.py", "agent.py"))
    package, name = "edge_asr_deploy.boards", "edge_asr_deploy.boards.channel"
    return (
        "import sys, types\n"
        f"for name in ('edge_asr_deploy', {package!r}, {name!r}):\n"
        "    sys.modules[name] = types.ModuleType(name)\n"
        f"exec(compile({channel!r}, 'channel', 'exec'), sys.modules[{name!r}].__dict__)\n"
        f"exec(compile({agent!r}, 'agent', 'exec'))\n"
    )


def _is_ipv6(text: str) -> bool:
    try:
        return isinstance(ipaddress.ip_address(text), ipaddress.IPv6Address)
    except ValueError:
        return False


def _last_line(text: str) -> str:
    """The last line that is not blank; empty when there is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
