"""`--on`, which commands that run on boards share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from edge_asr_deploy.boards.remote import Answer
    from edge_asr_deploy.boards.results import BoardResult, Measured

On = Annotated[
    list[str] | None,
    typer.Option("--on", metavar="USER@HOST[:PORT]", help="Run on this board, by SSH. Several boards run at once."),
]


def show(
    measured: Sequence[BoardResult[Measured]], as_json: bool, tables: Callable[[Measured], Iterable[Table]]
) -> None:
    """Print results as here, each led by its board's name; as JSON of several boards an object by board. `finish`."""
    import json

    from rich.console import Console

    if as_json:
        outputs = {one.answer.board: one.result and one.result.model_dump(mode="json") for one in measured}
        typer.echo(json.dumps(outputs if len(outputs) > 1 else next(iter(outputs.values())), indent=1))
    for one in measured:
        if one.result is not None and not as_json:
            typer.echo(one.answer.board)
            Console().print(*tables(one.result), sep="\n")
    finish(one.answer for one in measured)


def finish(answers: Iterable[Answer]) -> None:
    """Print what the boards said on stderr; exit with the highest code of any."""
    code = 0
    for answer in answers:
        for line in answer.messages:
            typer.echo(f"edge-deploy: {line}" if answer.code else line, err=True)
        code = max(code, answer.code if answer.code >= 0 else 2)
    if code:
        raise typer.Exit(code)
