"""How a command shows that it is still working: one line per thing that is done."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def progress_display(console: Console) -> Progress:
    """Lines that are gone when the work is done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True)


class Ticker:
    """One line of the progress display."""

    def __init__(self, progress: Progress, description: str) -> None:
        self.progress, self.description = progress, description
        self.task = progress.add_task(description, total=None, visible=False)

    def advance(self, done: int, total: int, name: str) -> None:
        """`done` of `total` are finished."""
        self.progress.update(self.task, completed=done, total=total, visible=True)

    def say(self, what: str) -> None:
        """Show what is being done, where nothing can be counted."""
        self.progress.update(self.task, description=what, visible=True)
