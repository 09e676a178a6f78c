"""A board behind the user's own `ssh`: keys, known hosts and jump hosts are those of the user's configuration."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from edge_asr_deploy.boards.agent import READY
from edge_asr_deploy.errors import UserError

OPTION = "--on"
PING_SECONDS = 10.0
CHUNK = 1 << 18
# Asking for a password would hang a script; the rest lets a dead network be noticed within a minute.
_OPTIONS = ("BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=4")
# What ssh says (in English, LC_ALL=C), and what to do about it; the first that fits counts.
_FAULTS = (
    (r"IDENTIFICATION HAS CHANGED", "its host key is another than the one known; if that is right, `ssh-keygen -R` it"),
    (r"Host key verification failed", "its host key is not known; connect once with `ssh`, compare the key, accept it"),
    (r"Permission denied|Too many authentication", "no key is accepted there; `ssh-copy-id` brings yours over"),
    (r"Could not resolve hostname", "there is no host of this name; correct it"),
    (r"Connection refused", "nothing answers at this port; start its SSH server, or correct the port"),
    (r"timed out|No route to host|unreachable", "the host cannot be reached; switch it on, or check the network"),
)


@dataclass(frozen=True)
class Board:
    """`[user@]host[:port]`; the host may be a name of the user's SSH configuration, an IPv6 address is `[::1]`."""

    destination: str
    port: int | None
    name: str

    @classmethod
    def parse(cls, text: str) -> Board:
        """UserError when the text is no such address."""
        match = re.fullmatch(
            r"(?P<user>[^\s@:-][^\s@:]*@)?(?P<host>[\w.-]+|\[[0-9a-fA-F:.%\w]+\])(:(?P<port>\d+))?", text
        )
        port = int(match["port"]) if match and match["port"] else None
        if match is None or match["host"].startswith("-") or not (port is None or 0 < port < 65536):
            raise UserError(OPTION, text, "is no address; give user@host or user@host:port")
        return cls(f"{match['user'] or ''}{match['host'].strip('[]')}", port, text)


class Connection:
    """The agent on one board. Use as a context manager; `about` is what it says of itself.

    UserError with the reason when there is no connection, when the board refuses a request, and when it is cut.
    """

    def __init__(self, board: Board) -> None:
        self.board = board
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        source = resources.files("edge_asr_deploy.boards").joinpath("agent.py").read_bytes()
        packed = base64.b64encode(zlib.compress(source, 9)).decode()
        # base64 has no character that any shell would touch inside double quotes.
        code = f"import base64,zlib;exec(compile(zlib.decompress(base64.b64decode('{packed}')),'agent','exec'))"
        port = [] if board.port is None else ["-p", str(board.port)]
        options = [word for option in _OPTIONS for word in ("-o", option)]
        try:
            # Its own process group: Ctrl-C reaches the parent only, which closes its connections itself.
            self._process = subprocess.Popen(
                ["ssh", "-T", *options, *port, "--", board.destination, f'python3 -c "{code}"'],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                env={**os.environ, "LC_ALL": "C"},
                process_group=0,
            )
        except FileNotFoundError:
            raise UserError(OPTION, board.name, "there is no `ssh` here; install the OpenSSH client") from None
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
        """Let the agent do something; its answer."""
        self._send(json.dumps({"do": operation, **request}).encode() + b"\n")
        return self._answer()

    def put(self, path: Path, sha256: str, offset: int, sent: Callable[[int], None] = lambda size: None) -> None:
        """Copy a file from byte `offset` on; `sent` is told the bytes of every piece.

        UserError if it changes meanwhile.
        """
        size = path.stat().st_size
        with path.open("rb") as file, self._lock:
            file.seek(offset)
            self._write(json.dumps({"do": "put", "sha256": sha256, "size": size, "offset": offset}).encode() + b"\n")
            remaining = size - offset
            while remaining and (piece := file.read(min(CHUNK, remaining))):
                self._write(piece)
                remaining -= len(piece)
                sent(len(piece))
        if remaining:
            self.fail(f"{path} became shorter while it was copied; run it again")
        if self._answer()["good"]:
            return
        if not offset:
            self.fail(f"{path} changed while it was copied; run it again")
        # What lay there was of something else.
        self.put(path, sha256, 0, sent)

    def fail(self, reason: str) -> NoReturn:
        """Raise the UserError that names this board."""
        raise UserError(OPTION, self.board.name, reason)

    def close(self) -> None:
        """End the connection; what still runs on the board is ended there, by the agent."""
        self._closed.set()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            try:
                if pipe is not None:
                    pipe.close()
            except (BrokenPipeError, ValueError):
                # What a dead process never read is lost on purpose.
                continue

    def _greet(self) -> None:
        assert self._process.stdout is not None
        # What the board's shell prints at login may come first.
        while line := self._process.stdout.readline():
            if line.decode(errors="replace").strip() == READY:
                self.about = self._answer()
                return
        self._diagnose()

    def _diagnose(self) -> NoReturn:
        """Say why no agent answered."""
        code = self._process.wait()
        said = self._heard()
        for pattern, remedy in _FAULTS:
            if code == 255 and re.search(pattern, said):
                self.fail(remedy)
        if code in (126, 127):
            self.fail("there is no python3; install Python 3.11 or newer with venv")
        last = said.strip().splitlines()[-1:] or ["no message"]
        self.fail(f"ssh ended with code {code} ({last[0].strip()})")

    def _heard(self) -> str:
        try:
            self._said.seek(0)
            return self._said.read().decode(errors="replace")
        except ValueError:
            # Closed by another thread.
            return ""

    def _send(self, data: bytes) -> None:
        with self._lock:
            self._write(data)

    def _write(self, data: bytes) -> None:
        """Where the other end does not listen any more, `_answer` finds out why."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            return

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            line = self._process.stdout.readline()
        except ValueError:
            # Closed by another thread.
            line = b""
        if not line.endswith(b"\n"):
            last = [line for line in self._heard().splitlines() if line.strip()][-1:]
            detail = f" ({last[0].strip()})" if last else ""
            self.fail(f"the connection was cut{detail}; run it again, what was copied is kept")
        answer: dict[str, Any] = json.loads(line)
        if "refused" in answer:
            self.fail(answer["refused"])
        return answer

    def _ping(self) -> None:
        """Signs of life, for an agent that would else take silence for a cut."""
        while not self._closed.wait(PING_SECONDS):
            self._send(b"\n")
