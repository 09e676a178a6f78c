"""`edge-deploy sweep`: runs many recipes over many models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.options import with_options
from edge_asr_deploy.cli.output import say_model
from edge_asr_deploy.experiments.options import SweepOptions


@with_options(SweepOptions)
def command(
    file: Annotated[
        Path, typer.Argument(help="File that describes the sweep, for example recipes/sweeps/edge-asr.yaml.")
    ],
    options: SweepOptions,
    lists: Annotated[bool, typer.Option("--list", help="Print all cells with their state, and run nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Quantize, export and evaluate every cell of a grid. Cells that an earlier run finished are not run again.

    If a cell fails, the failure is recorded, the other cells still run, and the exit code is 1.

    Examples:

        edge-deploy sweep recipes/sweeps/smoke.yaml

        edge-deploy sweep recipes/sweeps/edge-asr.yaml --jobs 2 --only "whisper-tiny.en/*/w4a16/*"

        edge-deploy sweep recipes/sweeps/edge-asr.yaml --ray 10.0.0.5:6379
    """
    import shlex

    from edge_asr_deploy.cli.console import console
    from edge_asr_deploy.experiments.sweep import tables
    from edge_asr_deploy.experiments.sweep.run import plan, run
    from edge_asr_deploy.experiments.sweep.store import Store
    from edge_asr_deploy.options import words

    messages = console(stderr=True)
    if lists:
        planned = plan(file, options, Store(), messages)
        for one in planned.states:
            if one.cell.name in planned.chosen:
                state = "pending"
                if one.finding:
                    state = "cached"
                elif one.error:
                    state = f"cannot run: {one.error}"
                typer.echo(f"{one.cell.name}\t{state}")
        return
    # Without --only: results grow from run to run, and this command makes all of them.
    line = shlex.join(["edge-deploy", "sweep", str(file), *words(options, leave_out=("only",))])
    folder, result = run(file, options, Store(), messages, line)
    if as_json:
        say_model(result)
    else:
        typer.echo(tables.summary(result))
        typer.echo(f"Written to {folder}.")
    if any(record.error for record in result.cells):
        raise typer.Exit(1)
