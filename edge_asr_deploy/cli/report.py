"""`edge-deploy report`: writes results as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.options import Leaderboard
from edge_asr_deploy.cli.output import say
from edge_asr_deploy.printing import one_line


def command(
    results: Annotated[list[Path], typer.Argument(help="Files written by `edge-deploy evaluate --output`.")],
    output: Annotated[Path, typer.Option(help="HTML page to write.")] = Path("report.html"),
    worst: Annotated[
        int, typer.Option(min=0, help="How many of the worst utterances of each result are shown word by word.")
    ] = 8,
    leaderboard: Leaderboard = False,
) -> None:
    """Write results as one HTML page: errors, sizes, latency, the worst utterances and the environment.

    The page loads no other files. It shows several results side by side.

    Example: `edge-deploy report results/*.json --output report.html`
    """
    from edge_asr_deploy.harness.reporting.html import write_report

    size = write_report(results, output, worst, leaderboard)
    say(f"{one_line(str(output))}: {len(results)} result{'s' if len(results) > 1 else ''}, {size / 1000:.0f} kB")
