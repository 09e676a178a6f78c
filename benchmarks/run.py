"""Run cells: each a process, one after the other, its record kept as soon as it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.cells import Cell, Configuration
from benchmarks.clips import Clip
from benchmarks.figures import out_of_race
from benchmarks.forms import ROOT, Forms, Unavailable, fingerprint, language_of
from benchmarks.store import DONE, FAILED, SKIPPED, Record, Store
from benchmarks.worker import Job
from edge_asr_deploy.checkpoints import Checkpoint

# A timed cell that takes longer hangs; hearing a share of the speech may take a slow, busy machine an hour.
SECONDS, SECONDS_TO_HEAR = 900.0, 7200.0
Launch = Callable[[Cell, Job], Record]


@dataclass(frozen=True)
class Subject:
    """A configuration that is ready: its folder and fingerprint, or why it is skipped."""

    configuration: Configuration
    folder: Path | None
    fingerprint: str | None = None
    reason: str | None = None


def subjects(
    checkpoint: Checkpoint, configurations: Sequence[Configuration], forms: Forms, missing: dict[str, str | None]
) -> list[Subject]:
    """Make what every configuration needs; those that are not installed, or cannot be made, have a reason."""
    found = []
    for one in configurations:
        try:
            if reason := missing.get(one.rival):
                raise Unavailable(reason)
            folder = forms.folder(checkpoint, one)
            found.append(Subject(one, folder, fingerprint(folder) if one.is_ours else None))
        except Unavailable as error:
            found.append(Subject(one, None, reason=str(error)))
    return found


@dataclass(frozen=True)
class Runner:
    """Runs the cells of one model that are not in `store` yet. `say` gets one line per cell."""

    checkpoint: Checkpoint
    subjects: Sequence[Subject]
    store: Store
    launch: Launch
    say: Callable[[str], None]
    retry: bool = False

    def run(self, cells: Sequence[Cell], clips: dict[str, list[Clip]], budget: float | None, jobs: int = 1) -> int:
        """Run what is left, by part its `clips`; after `budget` seconds no cell is begun. How many are left then."""
        ready = {one.configuration: one for one in self.subjects}
        deadline = time.monotonic() + budget if budget is not None else float("inf")
        todo = [cell for cell in cells if not self._settled(cell, ready[cell.configuration])]

        def work(cell: Cell) -> bool:
            if time.monotonic() >= deadline:
                return False
            # The race goes on while others run: ask only now.
            if reason := out_of_race(cell, self.store.records.values()):
                self.say(f"{cell.key}: not run: {reason}")
                return True
            self._one(cell, ready[cell.configuration], clips[cell.part], jobs == 1)
            return True

        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(work, todo)).count(False)

    def _settled(self, cell: Cell, subject: Subject) -> bool:
        if subject.reason:
            self.store.put(cell, {"outcome": SKIPPED, "reason": subject.reason})
            return True
        return self.store.finished(cell, subject.fingerprint, self.retry)

    def _one(self, cell: Cell, subject: Subject, clips: Sequence[Clip], confined: bool) -> None:
        started = time.monotonic()
        job = Job(
            rival=cell.configuration.rival,
            configuration=cell.configuration.name,
            model=cell.model,
            folder=str(subject.folder),
            threads=cell.threads,
            language=language_of(self.checkpoint),
            clips=[asdict(clip) for clip in clips],
            options=cell.configuration.options,
            warm_up=0 if cell.part.startswith("wer:") else 1,
            confined=confined,
        )
        record = self.launch(cell, job)
        if subject.fingerprint:
            record["fingerprint"] = subject.fingerprint
        self.store.put(cell, record)
        outcome = record.get("reason") or f"{time.monotonic() - started:.1f} s"
        self.say(f"{cell.key}: {record['outcome']}: {outcome}")


def process(python: Path, cache: Path) -> Launch:
    """Launch cells as processes: ours with this interpreter, rivals with `python`.

    What ours keeps between starts lies below `cache`, by configuration, and is gone before the first start.
    """

    def launch(cell: Cell, job: Job) -> Record:
        one = cell.configuration
        count = str(job.threads)
        seconds = SECONDS_TO_HEAR if cell.part.startswith("wer:") else SECONDS
        environment = os.environ | {f"{name}_NUM_THREADS": count for name in ("OMP", "OPENBLAS", "MKL")}
        environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(ROOT)}
        # whisper.cpp built on the spot lays its libraries there, but looks for them where it was built.
        beside = ":".join(map(str, python.parent.parent.glob("lib/python3*/site-packages")))
        if not one.is_ours:
            environment["LD_LIBRARY_PATH"] = beside
        if one.is_ours:
            kept = (cache / f"{cell.model}-{one.name}-{count}".replace(" ", "_")).absolute()
            if cell.part == "clips" and cell.round == 0:
                shutil.rmtree(kept, ignore_errors=True)
            environment["EDGE_ASR_CACHE"] = str(kept)
        with tempfile.TemporaryDirectory() as folder:
            given, result, log = (Path(folder, name) for name in ("job.json", "result.json", "log.txt"))
            given.write_text(json.dumps(asdict(job)))
            command = [sys.executable if one.is_ours else str(python), "-m", "benchmarks.worker"]
            with log.open("w") as output:
                child = subprocess.Popen(
                    [*command, str(given), str(result)],
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    process_group=0,
                )
                try:
                    code = child.wait(seconds)
                except subprocess.TimeoutExpired:
                    return {"outcome": FAILED, "reason": f"took more than {seconds:.0f} s"}
                finally:
                    with suppress(ProcessLookupError):
                        os.killpg(child.pid, signal.SIGKILL)
            if not result.exists():
                said = log.read_text(errors="replace").strip().splitlines()
                return {"outcome": FAILED, "reason": f"ended with code {code}: {said[-1][:300] if said else ''}"}
            answer: Record = json.loads(result.read_text())
        if "error" in answer:
            return {"outcome": FAILED, "reason": answer["error"]}
        return {"outcome": DONE, **answer}

    return launch
