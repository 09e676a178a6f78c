"""`--on`, which commands that run on boards share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edge_asr_deploy.boards.remote import Answer

On = Annotated[
    list[str] | None,
    typer.Option("--on", metavar="USER@HOST[:PORT]", help="Run on this board, by SSH. Several boards run at once."),
]


def finish(answers: Iterable[Answer]) -> None:
    """Print what the boards said on stderr; exit with the highest code of any."""
    code = 0
    for answer in answers:
        for line in answer.messages:
            typer.echo(f"edge-deploy: {line}" if answer.code else line, err=True)
        code = max(code, answer.code if answer.code >= 0 else 2)
    if code:
        raise typer.Exit(code)
