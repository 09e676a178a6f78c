"""How long work shows that it goes on: one protocol for all of it, and its lines on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console


class Progress(Protocol):
    """What long work reports to."""

    def __call__(self, what: str, done: int = 0, total: int = 0) -> None:
        """`what` is being worked on, and `done` of `total` are finished; without a `total` nothing can be counted."""


def silent(what: str, done: int = 0, total: int = 0) -> None:
    """Report to nobody."""


def as_text(what: str, done: int = 0, total: int = 0) -> str:
    """One report as a few words: the stage and how far it is, or what is being done where nothing can be counted."""
    return f"{what.partition(': ')[0]} {done}/{total}" if total else what


class Counter:
    """Reports one more finished thing at each call."""

    def __init__(self, progress: Progress, what: str, total: int = 0) -> None:
        self.progress, self.what, self.total, self.done = progress, what, total, 0
        if total:
            progress(what, 0, total)

    def __call__(self) -> None:
        """One more is finished."""
        self.done += 1
        self.progress(self.what, self.done, self.total)


@contextmanager
def shown(console: Console | None) -> Iterator[Progress]:
    """Progress on a console: a line for each stage, with a bar where it can be counted; gone when the work is done.

    Stages are told apart by what stands before a colon: `quantizing: model.decoder.layers.0.fc1`. Without a console
    nothing is shown.
    """
    if console is None:
        yield silent
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Display

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    # Seldom refreshed: each time takes one of the processors from what may be being timed.
    with Display(*columns, console=console, transient=True, refresh_per_second=2) as display:
        tasks = {}

        def report(what: str, done: int = 0, total: int = 0) -> None:
            stage, _, detail = what.partition(": ")
            if stage not in tasks:
                tasks[stage] = display.add_task(stage, total=None)
            display.update(
                tasks[stage],
                completed=done,
                total=total or None,
                description=what if detail and not total else stage,
            )

        yield report


def staged(progress: Progress, stage: str) -> Progress:
    """The same progress, for one stage of the work."""

    def report(what: str, done: int = 0, total: int = 0) -> None:
        progress(f"{stage}: {what}", done, total)

    return report
