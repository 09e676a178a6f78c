"""`edge-deploy inspect`: shows what a bundle contains and which operators onnxruntime runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.output import say_model


def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle to inspect.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List layers, bits and bytes, and the operators that remain after onnxruntime's optimization.

    Example: `edge-deploy inspect exported/whisper-tiny.en-w4`
    """
    from edge_asr_deploy.cli.console import console
    from edge_asr_deploy.harness.inspection.inspect import inspect_bundle
    from edge_asr_deploy.harness.reporting.tables import inspection_tables

    inspection = inspect_bundle(bundle)
    if as_json:
        say_model(inspection)
    else:
        console().print(*inspection_tables(inspection), sep="\n")
