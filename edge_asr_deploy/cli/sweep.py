"""`edge-deploy sweep`: many recipes over many models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.options import with_options
from edge_asr_deploy.experiments.options import SweepOptions


@with_options(SweepOptions)
def command(
    file: Annotated[Path, typer.Argument(help="The sweep, for example recipes/sweeps/edge-asr.yaml.")],
    options: SweepOptions,
    lists: Annotated[bool, typer.Option("--list", help="Print the cells and how far they are; run nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Quantize, export and judge every cell of a grid; what was done before is not done again.

    A cell that fails is recorded and the others go on; the exit code is 1 then.

    Examples:

        edge-deploy sweep recipes/sweeps/smoke.yaml

        edge-deploy sweep recipes/sweeps/edge-asr.yaml --jobs 2 --only "whisper-tiny.en/*/w4a16/*"

        edge-deploy sweep recipes/sweeps/edge-asr.yaml --ray 10.0.0.5:6379
    """
    import shlex

    from rich.console import Console

    from edge_asr_deploy.experiments.sweep import tables
    from edge_asr_deploy.experiments.sweep.run import plan, run
    from edge_asr_deploy.experiments.sweep.store import Store
    from edge_asr_deploy.options import words

    messages = Console(stderr=True, highlight=False)
    if lists:
        planned = plan(file, options, Store(), messages)
        for one in planned.known:
            if one.cell.name in planned.chosen:
                state = "cached" if one.finding else f"cannot run: {one.error}" if one.error else "pending"
                typer.echo(f"{one.cell.name}\t{state}")
        return
    # Without --only: results grow from run to run, and this command makes all of them.
    line = shlex.join(["edge-deploy", "sweep", str(file), *words(options, leave_out=("only",))])
    folder, result = run(file, options, Store(), messages, line)
    if as_json:
        typer.echo(result.model_dump_json(indent=1))
    else:
        typer.echo(tables.summary(result))
        typer.echo(f"Written to {folder}.")
    if any(record.error for record in result.cells):
        raise typer.Exit(1)
