"""Cells on this machine: one after the other in this process, or several at once in processes of their own."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import IO

from edge_asr_deploy.experiments.sweep.cells import Job, Outcome, attempt, outcome_from_json, to_json
from edge_asr_deploy.experiments.sweep.store import Store
from edge_asr_deploy.experiments.sweep.watch import Watcher
from edge_asr_deploy.progress import Progress, as_text
from edge_asr_deploy.runtime.cpu import usable_cores

# The waiting main thread wakes up this often, so that it reacts to Ctrl-C at once.
POLL_SECONDS = 0.5


def run_here(jobs: Sequence[Job], store: Store, watcher: Watcher) -> None:
    """Run the cells in this process."""
    for job in jobs:
        watcher.started(job)
        watcher.finished(job, attempt(job, store, _reporter(job, watcher)))


def _reporter(job: Job, watcher: Watcher) -> Progress:
    def report(what: str, done: int = 0, total: int = 0) -> None:
        watcher.stage(job, as_text(what, done, total))

    return report


def run_processes(jobs: Sequence[Job], number: int, store: Store, watcher: Watcher) -> None:
    """Run the cells in up to `number` processes at once, a fresh one for each cell.

    A process that dies takes only its cell with it. When this process is interrupted or dies, the others end, too.
    """
    news: queue.Queue[tuple[Job, str | Outcome | None]] = queue.Queue()
    crew = _Crew(store, max(1, usable_cores() // number), news)
    remaining = len(jobs)
    with ThreadPoolExecutor(number) as pool:
        try:
            for job in jobs:
                pool.submit(crew.run, job)
            while remaining:
                try:
                    job, what = news.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    continue
                if what is None:
                    watcher.started(job)
                elif isinstance(what, str):
                    watcher.stage(job, what)
                else:
                    watcher.finished(job, what)
                    remaining -= 1
        finally:
            crew.end()
            pool.shutdown(cancel_futures=True)


class _Crew:
    """The running processes. Each thread of the pool starts one, reads its messages, and passes them on."""

    def __init__(self, store: Store, threads: int, news: queue.Queue[tuple[Job, str | Outcome | None]]) -> None:
        self.store, self.threads, self.news = store, threads, news
        self.lock = Lock()
        self.ended = False
        self.running: set[subprocess.Popen[str]] = set()

    def run(self, job: Job) -> None:
        self.news.put((job, None))
        try:
            self.news.put((job, self._outcome(job)))
        except Exception as error:  # The cell has ended, and the waiting thread must be told.
            self.news.put((job, Outcome(error=f"{type(error).__name__}: {error}")))

    def end(self) -> None:
        """Kill what is running; nothing more starts."""
        with self.lock:
            self.ended = True
            for process in self.running:
                process.kill()

    def _outcome(self, job: Job) -> Outcome:
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
            with self.lock:
                if self.ended:
                    return Outcome(error="interrupted")
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "edge_asr_deploy.experiments.sweep.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=complaints,
                    text=True,
                    env=_environment(os.environ, self.threads),
                    # Its own process group: Ctrl-C reaches the parent only, which ends its workers itself.
                    process_group=0,
                )
                self.running.add(process)
            try:
                return self._listen(job, process, complaints)
            finally:
                with self.lock:
                    process.kill()
                    process.wait()
                    self.running.discard(process)

    def _listen(self, job: Job, process: subprocess.Popen[str], complaints: IO[str]) -> Outcome:
        assert process.stdin is not None and process.stdout is not None
        try:
            print(str(self.store.root), to_json(job), sep="\n", file=process.stdin, flush=True)
            for line in process.stdout:
                message = json.loads(line)
                if "outcome" in message:
                    return outcome_from_json(message["outcome"])
                self.news.put((job, message["stage"]))
        except BrokenPipeError:
            pass
        code = process.wait()
        complaints.seek(0)
        last = next((line.strip() for line in reversed(complaints.readlines()) if line.strip()), "no message")
        hint = "; too little memory?" if code == -9 else ""
        return Outcome(error=f"its process ended with code {code}{hint} ({last})"[:500])


def _environment(environment: Mapping[str, str], threads: int) -> dict[str, str]:
    """The processes share the cores: OMP_NUM_THREADS limits torch and numpy, unless it is already set."""
    return {"OMP_NUM_THREADS": str(threads), **environment}
