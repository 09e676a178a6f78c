"""Whether whisper.cpp as it was compiled on this machine runs here; where it dies, its portable wheel takes its place.

A compiler takes every instruction that the processor names. On some (Intel with AMX in a virtual machine) the result
dies with a signal in its first product.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from benchmarks.forms import ROOT, Unavailable

SECONDS = 300
HEARS = "import sys, numpy as np; from pywhispercpp.model import Model; m = Model(sys.argv[1], print_progress=False)"
HEARS += "; m.transcribe(np.random.default_rng(0).normal(size=16000).astype(np.float32) * 0.1)"
ORIGIN = (
    "from importlib.metadata import distribution as d; "
    "print([line for line in d('pywhispercpp').read_text('WHEEL').splitlines() if line.startswith('Tag')])"
)
Run = Callable[[list[str]], subprocess.CompletedProcess[str]]


def build_in_use(python: Path, model: Path, run: Run | None = None) -> str:
    """Which build of whisper.cpp this environment has, in words, after it has heard a second of noise.

    Unavailable when the portable wheel dies, too.
    """
    run = run or _run
    tags = run([str(python), "-c", ORIGIN]).stdout
    build = "the portable wheel" if "manylinux" in tags else "compiled on this machine"
    heard = run([str(python), "-c", HEARS, str(model)])
    if heard.returncode >= 0:
        return build
    died = signal.Signals(-heard.returncode).name
    if build == "the portable wheel":
        raise Unavailable(f"whisper.cpp's portable wheel dies with {died}")
    pinned = next(
        line for line in (ROOT / "benchmarks" / "requirements.txt").read_text().split() if "pywhisper" in line
    )
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--force-reinstall"]
    run([*pip, "--no-deps", "--only-binary=:all:", pinned])
    again = run([str(python), "-c", HEARS, str(model)])
    if again.returncode < 0:
        raise Unavailable(f"whisper.cpp dies with {died}, compiled here and as a wheel")
    return f"the portable wheel, since what was compiled on this machine died with {died}"


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    # What is compiled lays its libraries beside the packages, but looks for them where it was built.
    beside = ":".join(map(str, Path(command[0]).parent.parent.glob("lib/python3*/site-packages")))
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={"LD_LIBRARY_PATH": beside, "PATH": "/usr/bin:/bin"},
    )
