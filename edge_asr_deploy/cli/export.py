"""`edge-deploy export`: makes a bundle from a checkpoint."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_asr_deploy.cli.options import with_options
from edge_asr_deploy.cli.output import say_model
from edge_asr_deploy.export_options import ExportOptions


@with_options(ExportOptions)
def command(
    options: ExportOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Quantize a checkpoint, export it to ONNX, prove it on onnxruntime, and write a bundle.

    Examples:

        edge-deploy export --bits 4

        edge-deploy export --model openai/whisper-base.en --bits 8 --output exported/base-w8

        edge-deploy export --model moonshine-tiny --bits 4 --set embedding.weights.bits=8

        edge-deploy export --bits 4 --target pi4,pi5,x86

        edge-deploy export --bits 5 --layout sherpa-onnx
    """
    from edge_asr_deploy.cli.console import console
    from edge_asr_deploy.harness.reporting.tables import export_table
    from edge_asr_deploy.pipeline import export

    folder, manifest = export(options, console(stderr=True))
    if as_json:
        say_model(manifest)
    else:
        console().print(export_table(folder, manifest))
