"""Programs under `strace`: whom they try to reach, and what they create."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CREATING = re.compile(r'\b(?:open|openat|creat|mkdir|mkdirat|mknod|mknodat|symlink|symlinkat)\(.*?"([^"]*)"(.*)')
DEVICES = ("/dev/", "/proc/")


@dataclass(frozen=True)
class Traced:
    """One run: its exit code, its output, the calls that reach for the network, and the paths that it created."""

    code: int
    output: str
    reached: list[str]
    created: list[Path]


def traced(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> Traced:
    """Run Python on `command` under strace, in an environment of its own whose home is `folder`/home."""
    if shutil.which("strace") is None or subprocess.run(["strace", "-qq", "true"], capture_output=True).returncode:
        pytest.skip("no strace here, or it may not trace (Debian: apt install strace)")
    log = folder / "strace.log"
    calls = "connect,sendto,sendmsg,sendmmsg,open,openat,creat,mkdir,mkdirat,mknod,mknodat,symlink,symlinkat"
    tracer = ["strace", "-f", "-qq", "-s", "4000", "-e", f"trace={calls}", "-e", "signal=none", "-o", str(log)]
    ran = run(tracer, command, folder, variables)
    lines = log.read_text(errors="replace").splitlines()
    log.unlink()
    reached = [line for line in lines if "sa_family=AF_INET" in line]
    output = ran.stdout.decode() + ran.stderr.decode()
    return Traced(ran.returncode, output, reached, sorted(set(_created(lines, folder))))


def run(
    before: Sequence[str], command: Sequence[str], folder: Path, variables: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """The same without strace where `before` is empty."""
    for name in ("home", "temporary", "work"):
        (folder / name).mkdir(exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "temporary"),
        "EDGE_ASR_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        **variables,
    }
    words = [*before, sys.executable, *command]
    return subprocess.run(words, cwd=folder / "work", env=environment, capture_output=True)


def _created(lines: Sequence[str], folder: Path) -> Iterator[Path]:
    for line in lines:
        match = CREATING.search(line)
        if match is None or " = -1 " in line:
            continue
        name, rest = match[1], match[2]
        is_open = re.search(r"\bopen(at)?\(", line) is not None
        if (is_open and "O_CREAT" not in rest) or name.startswith(DEVICES):
            continue
        yield Path(os.path.normpath(folder / "work" / name))
