"""`edge-deploy cost`: counts multiply-accumulates and bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.output import say_json


def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Seconds of audio for the encoder (Whisper always takes 30).")
    ] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Count multiply-accumulates and bytes moved: in the encoder, the decoder's first call and one later decoder step.

    Example: `edge-deploy cost exported/whisper-tiny.en-w4`
    """
    import dataclasses

    from edge_asr_deploy.cli.console import console
    from edge_asr_deploy.harness.inspection.cost import cost_of
    from edge_asr_deploy.harness.reporting.tables import cost_table

    costs = cost_of(bundle, seconds)
    if as_json:
        say_json([dataclasses.asdict(cost) for cost in costs], indent=1)
    else:
        console().print(*(cost_table(cost) for cost in costs), sep="\n")
