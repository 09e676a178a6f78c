"""`edge-deploy fit`: chooses bits for every matrix under a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.options import with_options
from edge_asr_deploy.cli.output import say_text
from edge_asr_deploy.experiments.options import FitOptions


@with_options(FitOptions)
def command(
    output: Annotated[Path, typer.Option(help="Recipe file to write; measurements go to NAME.fit beside it.")],
    options: FitOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Choose bits per matrix from measured sensitivities, and write a recipe that `edge-deploy export --recipe` takes.

    No reference text is needed: sensitivities are measured against the float model's own transcripts of calibration
    speech.

    Examples:

        edge-deploy fit --model whisper-tiny.en --max-mb 18 --output fit18.yaml

        edge-deploy fit --model moonshine-tiny --max-wer-rise 0.5 --data dev.jsonl --output fit.yaml
    """
    from edge_asr_deploy.cli.console import console
    from edge_asr_deploy.experiments.mixed.fit import fit
    from edge_asr_deploy.experiments.mixed.report import fit_table

    result = fit(options, output, console(stderr=True))
    if as_json:
        say_text(result.as_json())
    else:
        console().print(fit_table(result))
