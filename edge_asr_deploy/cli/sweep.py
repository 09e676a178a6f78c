"""`edge-deploy sweep`: many recipes over many models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    file: Annotated[Path, typer.Argument(help="The sweep, for example recipes/sweeps/edge-asr.yaml.")],
    output: Annotated[Path | None, typer.Option(help="Folder of the results. Default: docs/results/NAME.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Cells at once, each in a process of its own.")] = 1,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run on this Ray cluster: host:port, ray://host:port or auto.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Only cells whose name matches; may be repeated.")
    ] = None,
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
    from edge_asr_deploy.experiments.sweep.run import Request, plan, run
    from edge_asr_deploy.experiments.sweep.store import Store

    messages = Console(stderr=True, highlight=False)
    given = {"--output": output, "--ray": ray, "--jobs": jobs if jobs > 1 else None}
    options = [part for name, value in given.items() if value is not None for part in (name, str(value))]
    # Without --only: results grow from run to run, and this is what makes all of them.
    line = shlex.join(["edge-deploy", "sweep", str(file), *options])
    request = Request(file, output, jobs, ray, only or [], line)
    if lists:
        planned = plan(request, Store(), messages)
        for one in planned.known:
            if one.cell.name in planned.chosen:
                state = "cached" if one.finding else f"cannot run: {one.error}" if one.error else "pending"
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
