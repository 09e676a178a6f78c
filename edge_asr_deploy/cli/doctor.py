"""`edge-deploy doctor`: tells whether this machine can run bundles, and why not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.output import say_model


def command(
    bundle: Annotated[Path | None, typer.Argument(help="Also check whether this bundle would run here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check processor, memory, system, Python packages and cooling; report problems with their remedies.

    The exit code is 0 when bundles run here, and 1 when a problem must be fixed first. A warning only costs speed.

    Examples:

        edge-deploy doctor

        edge-deploy doctor exported/whisper-tiny.en-w4 --json
    """
    from edge_asr_deploy.cli.console import console
    from edge_asr_deploy.harness.doctor.doctor import diagnose
    from edge_asr_deploy.harness.doctor.report import diagnosis_table

    diagnosis = diagnose(bundle)
    if as_json:
        say_model(diagnosis)
    else:
        console().print(diagnosis_table(diagnosis))
    if not diagnosis.can_run:
        raise typer.Exit(1)
