"""`edge-deploy sweep`: runs many recipes over many models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    file: Annotated[
        Path, typer.Argument(help="File that describes the sweep, for example recipes/sweeps/edge-asr.yaml.")
    ],
    output: Annotated[Path | None, typer.Option(help="Folder for the results. Default: docs/results/NAME.")] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Number of cells that run at once, each in a process of its own.")
    ] = 1,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run on this Ray cluster: host:port, ray://host:port or auto.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Run only cells whose name matches; may be repeated.")
    ] = None,
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

    from rich.console import Console

    from edge_asr_deploy.experiments.sweep import tables
    from edge_asr_deploy.experiments.sweep.run import Request, plan, run
    from edge_asr_deploy.experiments.sweep.store import Store

    messages = Console(stderr=True, highlight=False)
    given = {"--output": output, "--ray": ray, "--jobs": jobs if jobs > 1 else None}
    options = [part for name, value in given.items() if value is not None for part in (name, str(value))]
    # The recorded command leaves out --only: results grow from run to run, and this command makes all of them.
    line = shlex.join(["edge-deploy", "sweep", str(file), *options])
    request = Request(file, output, jobs, ray, only or [], line)
    if lists:
        planned = plan(request, Store(), messages)
        for one in planned.known:
            if one.cell.name in planned.chosen:
                state = "pending"
                if one.finding:
                    state = "cached"
                elif one.error:
                    state = f"cannot run: {one.error}"
                typer.echo(f"{one.cell.name}\t{state}")
        return
    folder, result = run(request, Store(), messages)
    if as_json:
        typer.echo(result.model_dump_json(indent=1))
    else:
        typer.echo(tables.summary(result))
        typer.echo(f"Written to {folder}.")
    if any(record.error for record in result.cells):
        raise typer.Exit(1)
