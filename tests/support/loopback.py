"""A board on loopback, as tests see it."""

from __future__ import annotations

import getpass
import shlex
from dataclasses import dataclass
from pathlib import Path

# Python programs that run before any other, to make the board's python3 look like another one.
SITE = "sitecustomize.py"
SECOND = "127.0.0.2"


@dataclass(frozen=True)
class Loopback:
    """Where the sshd listens, the folder with its files, and the `ssh` that stands for the user's own."""

    port: int
    folder: Path
    ssh: Path

    @property
    def address(self) -> str:
        return f"{getpass.getuser()}@127.0.0.1:{self.port}"

    @property
    def second(self) -> str:
        """Another board: the same sshd by an address of its own, with a cache of its own."""
        return f"{getpass.getuser()}@{SECOND}:{self.port}"

    def configure(self, *lines: str) -> None:
        """The user's SSH configuration, and no other."""
        (self.folder / "config").write_text("".join(f"{line}\n" for line in lines))

    def environment(self, **variables: str) -> None:
        """Variables of everything that runs on the board from now on."""
        text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
        (self.folder / "environment").write_text(text)

    def python(self, code: str) -> str:
        """Let the board's python3 run `code` at its start; the value for its PYTHONPATH."""
        folder = self.folder / "site"
        folder.mkdir(exist_ok=True)
        (folder / SITE).write_text(code)
        return str(folder)


def files_there(there: Path) -> set[str]:
    """Everything on the board but the lock, as paths."""
    return {str(path.relative_to(there)) for path in there.rglob("*") if path.is_file() and path.name != "lock"}
