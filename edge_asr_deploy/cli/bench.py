"""`edge-deploy bench`: measures how fast a bundle is on this machine."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_asr_deploy.cli.on import KeepAudio, On, show
from edge_asr_deploy.cli.options import with_options
from edge_asr_deploy.cli.output import say_model
from edge_asr_deploy.harness.benchmark.options import BenchOptions

if TYPE_CHECKING:
    from rich.console import Console


@with_options(BenchOptions)
def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle to time.")],
    options: BenchOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    on: On = None,
    keep_audio: KeepAudio = False,
) -> None:
    """Time a bundle (loading, encoder, first token, later tokens, total) on audio of several lengths.

    Bundle and baseline run in turn (A B A B), each in a process of its own. If the board throttles during the
    measurement, the times are shown but not compared, and the exit code is 1.

    Examples:

        edge-deploy bench exported/whisper-tiny.en-w4 --baseline auto --output bench.json

        edge-deploy bench exported/whisper-tiny.en-w4 --threads 1,2,4 --soak 600 --profile

        edge-deploy bench exported/whisper-tiny.en-w4 --live --threads 1 --clips 50

        edge-deploy bench exported/whisper-tiny.en-w4 --on pi@raspberrypi --on pi@10.0.0.5:2222 --output bench.json
    """
    from edge_asr_deploy.cli.console import console
    from edge_asr_deploy.harness.benchmark.bench import run
    from edge_asr_deploy.harness.benchmark.report import bench_tables

    messages = console(stderr=True)
    command = shlex.join(["edge-deploy", *sys.argv[1:]])
    if options.live:
        _live(bundle, options, bool(on), as_json, messages, command)
        return
    if on:
        from edge_asr_deploy.boards.benchmark import bench_on

        show(bench_on(on, bundle, options, messages, command, keep_audio), as_json, bench_tables)
        return
    benchmark = run(bundle, options, messages, command)
    if as_json:
        say_model(benchmark)
    else:
        console().print(*bench_tables(benchmark), sep="\n")
    for reason in benchmark.disturbances:
        messages.print(f"Disturbed: {reason}.", style="red", markup=False)
    if benchmark.baseline and benchmark.disturbances:
        messages.print("Not compared: let the board cool down or fix its power supply, and measure again.", style="red")
        raise typer.Exit(1)


def _live(bundle: Path, options: BenchOptions, on_boards: bool, as_json: bool, messages: Console, command: str) -> None:
    from edge_asr_deploy.cli.console import console
    from edge_asr_deploy.errors import UserError
    from edge_asr_deploy.harness.benchmark.live import run_live
    from edge_asr_deploy.harness.benchmark.report import live_table
    from edge_asr_deploy.progress import shown

    if on_boards:
        raise UserError("--live", "with --on", "log in to the board, and run it there")
    with shown(messages) as progress:
        measured = run_live(bundle, options, progress, command)
    if as_json:
        say_model(measured)
    else:
        console().print(live_table(measured))
