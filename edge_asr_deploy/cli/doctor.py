"""`edge-deploy doctor`: can this machine run bundles, and if not, why?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    bundle: Annotated[Path | None, typer.Argument(help="Also: would this bundle run here?")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look at processor, memory, system, Python packages and cooling, and say what is wrong and what helps.

    Exit code 0 when bundles run here, 1 when something must be mended first. Warnings cost speed, no more.

    Examples:

        edge-deploy doctor

        edge-deploy doctor exported/whisper-tiny.en-w4 --json
    """
    from rich.console import Console

    from edge_asr_deploy.harness.doctor.doctor import diagnose
    from edge_asr_deploy.harness.doctor.report import diagnosis_table

    diagnosis = diagnose(bundle)
    if as_json:
        print(diagnosis.model_dump_json(indent=1))
    else:
        Console().print(diagnosis_table(diagnosis))
    if not diagnosis.can_run:
        raise typer.Exit(1)
