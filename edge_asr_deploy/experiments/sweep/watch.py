"""How the code that runs cells reports to the code that shows them."""

from __future__ import annotations

from typing import Protocol

from edge_asr_deploy.experiments.sweep.cells import Job, Outcome


class Watcher(Protocol):
    """Is told about every cell, always in the thread that started the run."""

    def started(self, job: Job) -> None:
        """A cell is running now."""

    def stage(self, job: Job, what: str) -> None:
        """What it is doing."""

    def finished(self, job: Job, outcome: Outcome) -> None:
        """It has ended."""
