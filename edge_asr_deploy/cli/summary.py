"""`edge-deploy summary`: prints several results as one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.options import Leaderboard
from edge_asr_deploy.cli.output import say


def command(
    results: Annotated[list[Path], typer.Argument(help="Files written by `edge-deploy evaluate --output`.")],
    leaderboard: Leaderboard = False,
) -> None:
    """Print results as one markdown table, in which each model's float baseline stands above its bundles.

    Example: `edge-deploy summary results/*.json`
    """
    from edge_asr_deploy.harness.reporting.summary import markdown, read_results

    say(markdown(read_results(results, leaderboard)))
