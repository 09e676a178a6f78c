"""Runs one case in a process of its own, so that a crash, a hang or a flood of memory is a finding and not an end."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

Case = Callable[[Path], None]
SECONDS = 60
# What a case may add to what the process held before it; with that it is below 1 GB.
BYTES = 700_000_000


@dataclass(frozen=True)
class Outcome:
    """`kind`: `good`, `refused` (one line for the user); findings: `traceback`, `wrong`, `crash`, `hang`, `memory`."""

    kind: str
    said: str = ""

    @property
    def is_finding(self) -> bool:
        """Whether something must be mended."""
        return self.kind not in ("good", "refused")


class Wrong(Exception):
    """A case that was taken although a checksum or hash says that it is not what it was."""


def run(case: Case, folder: Path) -> Outcome:
    """Run `case(folder)` in a forked process."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        _child(case, folder, writing)
    os.close(writing)
    deadline = time.monotonic() + SECONDS
    os.set_blocking(reading, False)
    said = b""
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        with suppress(BlockingIOError):
            said += os.read(reading, 1 << 16)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            os.close(reading)
            return Outcome("hang", f"more than {SECONDS} s")
        time.sleep(0.002)
    os.close(reading)
    if os.WIFSIGNALED(status):
        return Outcome("crash", signal.Signals(os.WTERMSIG(status)).name)
    kind, words, grown = json.loads(said)
    outcome = Outcome(kind, words)
    return Outcome("memory", f"{grown / 1e6:.0f} MB") if not outcome.is_finding and grown > BYTES else outcome


def _child(case: Case, folder: Path, writing: int) -> None:
    from edge_asr_deploy.errors import UserError

    # mpg123 and others print on their own.
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    warnings.simplefilter("ignore")
    # The highest memory from here on; a fork begins with that of its parent.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmRSS")
    try:
        case(folder)
        outcome = ("good", "")
    except UserError as error:
        line = str(error)
        outcome = ("traceback", "two lines: " + line) if "\n" in line else ("refused", line[:300])
    except Wrong as error:
        outcome = ("wrong", str(error)[:300])
    except BaseException:
        outcome = ("traceback", traceback.format_exc()[-3000:])
    os.write(writing, json.dumps([*outcome, _memory("VmHWM") - before]).encode())
    sys.stdout.flush()
    os._exit(0)


def _memory(key: str) -> int:
    """A figure of /proc/self/status in bytes; 0 on other systems."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), 0)
