"""Cells on a Ray cluster. Every node needs this package, the checkpoints and the speech; findings come back here."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.experiments.sweep.cells import (
    Job,
    Outcome,
    attempt,
    from_json,
    keep,
    outcome_from_json,
    outcome_to_json,
    to_json,
)
from edge_asr_deploy.experiments.sweep.keys import EVALUATE_SOURCE, EXPORT_SOURCE
from edge_asr_deploy.experiments.sweep.store import Store
from edge_asr_deploy.experiments.sweep.watch import Watcher
from edge_asr_deploy.progress import silent
from edge_asr_deploy.sources import source_hash

ANSWER_SECONDS = 5.0
POLL_SECONDS = 1.0
# Environment variables that a node takes from the driver where it has none itself.
VARIABLES = ("EDGE_ASR_DATA", "EDGE_ASR_CACHE", "HF_HOME")
AUTO = "auto"


def run_cluster(jobs: Sequence[Job], address: str, store: Store, watcher: Watcher) -> None:
    """Run the cells on the cluster at `address` (`host:port`, `ray://host:port`, or `auto`: the one on this machine).

    A cell takes as many of the cluster's CPUs as its evaluation has threads; one whose node dies is a cell that failed.
    UserError when Ray is not installed or the address does not answer.
    """
    with _connected(address) as ray:
        remote = ray.remote(max_retries=0)(run_on_node)
        settings = {name: os.environ[name] for name in VARIABLES if name in os.environ}
        source = _source()
        capacity = max(1.0, float(ray.cluster_resources().get("CPU", 1)))
        waiting = list(jobs)
        running: dict[Any, Job] = {}
        while waiting or running:
            taken = sum(job.cell.evaluation.threads for job in running.values())
            while waiting and (not running or taken + waiting[0].cell.evaluation.threads <= capacity):
                job = waiting.pop(0)
                threads = job.cell.evaluation.threads
                running[remote.options(num_cpus=min(threads, capacity)).remote(to_json(job), settings, source)] = job
                taken += threads
                watcher.started(job)
            done, _ = ray.wait(list(running), timeout=POLL_SECONDS)
            for reference in done:
                job = running.pop(reference)
                outcome = _outcome(ray, reference)
                if outcome.finding is not None:
                    # The node has stored it as well, but perhaps in its own folder.
                    keep(store, job.keys.result, outcome.finding)
                watcher.finished(job, outcome)


def run_on_node(job: str, settings: dict[str, str], source: str) -> str:
    """Run a job on a node: the job comes and the outcome goes as JSON."""
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    if _source() != source:
        return outcome_to_json(Outcome(error="the node has another version of edge_asr_deploy; install the same there"))
    return outcome_to_json(attempt(from_json(job), Store(), silent))


def _outcome(ray: Any, reference: Any) -> Outcome:
    try:
        return outcome_from_json(ray.get(reference))
    except ray.exceptions.RayError as error:
        return Outcome(error=f"its node or worker died ({str(error).strip().splitlines()[0]})"[:500])


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    try:
        import ray
    except ImportError:
        raise UserError("--ray", address, 'Ray is not installed; pip install "edge-asr-deploy[cluster]"') from None
    remedy = "no Ray cluster answers there; start one with `ray start --head`, or check host and port"
    if address != AUTO:
        # Ray itself would try for a minute and then print a page.
        host, _, port = address.removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
        except (OSError, ValueError, OverflowError):
            raise UserError("--ray", address, remedy) from None
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # ConnectionError, RuntimeError and others, by the way of failing.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError("--ray", address, f"{remedy} ({reason[:200]})") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _source() -> str:
    return source_hash([*EXPORT_SOURCE, *EVALUATE_SOURCE, "experiments.sweep.cells"])
