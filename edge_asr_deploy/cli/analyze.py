"""`edge-deploy analyze`: which parts of a model are hard to quantize."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_asr_deploy.cli.options import with_options
from edge_asr_deploy.cli.output import say_text
from edge_asr_deploy.experiments.options import AnalyzeOptions


@with_options(AnalyzeOptions)
def command(
    options: AnalyzeOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show ranges, kurtosis and outlier channels of weights and activations, and what rounding each matrix alone costs.

    Measured sensitivities are stored at once, so that a run that was interrupted continues where it stopped.

    Example: `edge-deploy analyze --model whisper-tiny.en --clips 4 --output analysis`
    """
    from edge_asr_deploy.cli.console import console
    from edge_asr_deploy.experiments.analysis.analyze import analyze, tables

    analysis = analyze(options, console(stderr=True))
    if as_json:
        say_text(analysis.as_json())
    else:
        console().print(*tables(analysis), sep="\n")
