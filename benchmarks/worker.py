"""One cell in a process of its own: `python -m benchmarks.worker JOB RESULT`, both JSON, run where the rival lives.

It stays light, since its peak memory is reported as the rival's, and imports nothing of the product.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODULES = {
    "edge-deploy": "ours",
    "transformers": "torch_reference",
    "faster-whisper": "ctranslate",
    "whisper.cpp": "whisper_cpp",
    "optimum": "optimum_onnx",
    "moonshine": "moonshine",
    "sherpa-onnx": "sherpa",
}


@dataclasses.dataclass(frozen=True)
class Job:
    """What to do. `folder` holds the checkpoint in the rival's form; `clips` are dicts with `id`, `seconds`, `path`.

    `language` is None for models that know only one. The first `warm_up` clips are heard once before the clock runs.
    """

    rival: str
    configuration: str
    model: str
    folder: str
    threads: int
    language: str | None
    clips: list[dict[str, Any]]
    options: dict[str, str]
    warm_up: int = 1
    confined: bool = True


@dataclasses.dataclass(frozen=True)
class Heard:
    """A text; `parts` are seconds of the rival's parts, where it tells them."""

    text: str
    parts: dict[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Opened:
    """A loaded model: 16 kHz samples (n,) to a text; the files of its weights; its version; more facts."""

    transcribe: Callable[[Any], Heard]
    files: tuple[Path, ...]
    version: str
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


def peak_rss() -> int:
    """Highest resident memory of this process so far, bytes."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def run(job: Job) -> tuple[dict[str, Any], Opened]:
    """Import, load, warm up, then hear every clip once; all clock times in seconds, memory in bytes.

    The model is handed out too: Moonshine's library crashes when it is closed, so the caller must outlive it.
    """
    import numpy as np

    started = time.perf_counter()
    adapter = importlib.import_module(f"benchmarks.rivals.{MODULES[job.rival]}")
    imported = time.perf_counter()
    opened: Opened = adapter.load(job)
    loaded = time.perf_counter()
    for clip in job.clips[: job.warm_up]:
        opened.transcribe(np.load(clip["path"]))
    rows = []
    for clip in job.clips:
        samples = np.load(clip["path"])
        wall, cpu = time.perf_counter(), time.process_time()
        heard = opened.transcribe(samples)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        row = {"id": clip["id"], "wall": wall, "cpu": cpu, "text": heard.text.strip(), "peak_rss": peak_rss()}
        rows.append(row | ({"parts": heard.parts} if heard.parts else {}))
    facts = opened.facts
    if facts.get("step_bytes"):
        # Last, for it takes memory that is not the model's.
        facts = facts | {"bandwidth": importlib.import_module("benchmarks.memory").bandwidth(job.threads)}
    result = {
        "import_seconds": imported - started,
        "load_seconds": loaded - imported,
        "version": opened.version,
        "files": {path.name: path.stat().st_size for path in opened.files},
        "facts": facts,
        "clips": rows,
    }
    return result, opened


def confine(threads: int) -> None:
    """Leave this process `threads` cores; to be called before numpy is imported, whose pools look at them."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def main() -> None:
    """Read the job, write the result, or the error that ended it."""
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    if job.confined:
        confine(job.threads)
    try:
        result, _opened = run(job)
    except Exception as error:
        import traceback

        traceback.print_exc()
        result = {"error": f"{type(error).__name__}: {error}"[:400]}
    Path(sys.argv[2]).write_text(json.dumps(result, ensure_ascii=False))
    # At once: no rival's clean-up may spoil what is written.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
