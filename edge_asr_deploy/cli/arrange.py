"""`edge-deploy arrange`: arranges a bundle's graphs for another engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.output import say, say_model
from edge_asr_deploy.printing import one_line


def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    layout: Annotated[str, typer.Option(help="Engines, separated by commas: sherpa-onnx, transformers.js, page.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder to write, for one engine. Default: BUNDLE-LAYOUT.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a folder of an earlier run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifests as JSON, one after the other.")] = False,
) -> None:
    """Arrange a bundle for another engine, with the same quantized weights, and prove that it says the same words.

    `edge-deploy export --layout` does the same right after an export.

    Example: `edge-deploy arrange exported/whisper-tiny.en-w5 --layout sherpa-onnx`
    """
    from edge_asr_deploy.cli.console import console
    from edge_asr_deploy.errors import UserError
    from edge_asr_deploy.layouts.layouts import arrange, named, report
    from edge_asr_deploy.progress import shown

    names = named(layout)
    if not names:
        raise UserError("--layout", layout, "is what the bundle has already; name another engine")
    if output is not None and len(names) > 1:
        raise UserError("--output", output, "is one folder for several layouts; leave it out, or name one layout")
    for name in names:
        with shown(console(stderr=True)) as progress:
            folder, manifest = arrange(bundle, name, output, overwrite, progress)
        if as_json:
            say_model(manifest)
        else:
            say(one_line(report(folder, manifest)))
