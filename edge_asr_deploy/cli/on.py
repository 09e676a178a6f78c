"""The option `--on`, shared by the commands that can run on boards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from edge_asr_deploy.cli.errors import error_line
from edge_asr_deploy.cli.output import say_json

if TYPE_CHECKING:
    from rich.table import Table

    from edge_asr_deploy.boards.remote import Answer
    from edge_asr_deploy.boards.results import BoardResult, Measured

On = Annotated[
    list[str] | None,
    typer.Option("--on", metavar="USER@HOST[:PORT]", help="Run on this board, by SSH. Several boards run at once."),
]

KeepAudio = Annotated[
    bool, typer.Option("--keep-audio", help="Leave audio and transcripts on the boards of --on, for the next run.")
]


def show(
    measured: Sequence[BoardResult[Measured]], as_json: bool, tables: Callable[[Measured], Iterable[Table]]
) -> None:
    """Print the results of all boards and exit as `finish` does.

    A table follows the name of its board. As JSON, one board's result is printed alone; several are an object by board.
    """

    from edge_asr_deploy.cli.console import console

    if as_json:
        outputs = {board.answer.board: board.result and board.result.model_dump(mode="json") for board in measured}
        say_json(outputs if len(outputs) > 1 else next(iter(outputs.values())), indent=1)
    for board in measured:
        if board.result is not None and not as_json:
            typer.echo(board.answer.board)
            console().print(*tables(board.result), sep="\n")
    finish(board.answer for board in measured)


def finish(answers: Iterable[Answer]) -> None:
    """Print the messages of all boards on stderr, then exit with the highest exit code among them."""
    code = 0
    for answer in answers:
        for line in answer.messages:
            typer.echo(error_line(line) if answer.code else line, err=True)
        # A negative code means that a signal ended the command there.
        code = max(code, 2 if answer.code < 0 else answer.code)
    if code:
        raise typer.Exit(code)
