"""`edge-deploy export`: a checkpoint becomes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    model: Annotated[
        str | None,
        typer.Option(help="Hub id, Transformers folder, CTranslate2 folder, or short name. Default: whisper-tiny.en."),
    ] = None,
    bits: Annotated[
        int | None, typer.Option(help="Shipped recipe for 2 to 8 bits; 32 is the float baseline. Default: 4.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="Recipe file, instead of --bits.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override one key of the recipe: decoder.weights.bits=3. May be repeated."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Devices, by commas: generic, x86, pi4, pi5. Several share one set of stored weights."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the bundle. Default: exported/MODEL-RECIPE.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a bundle that is there.")] = False,
    calibration: Annotated[
        str | None,
        typer.Option(
            help="Speech to calibrate on: `auto`, a JSONL manifest, `common-voice:en`, a Hub data set or folder."
        ),
    ] = None,
    number: Annotated[int | None, typer.Option(min=1, help="Calibration clips.")] = None,
    seed: Annotated[int | None, typer.Option(help="Which clips are drawn.")] = None,
    language: Annotated[str, typer.Option(help="Language of the calibration speech (multilingual models).")] = "en",
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Quantize a checkpoint, export it to ONNX, prove it on onnxruntime, and write a bundle.

    Examples:

        edge-deploy export --bits 4

        edge-deploy export --model openai/whisper-base.en --bits 8 --output exported/base-w8

        edge-deploy export --model moonshine-tiny --bits 4 --set embedding.weights.bits=8

        edge-deploy export --bits 4 --target pi4,pi5,x86
    """
    from rich.console import Console

    from edge_asr_deploy.export_options import ExportOptions
    from edge_asr_deploy.harness.reporting.tables import export_table
    from edge_asr_deploy.pipeline import export

    messages = Console(stderr=True, highlight=False)
    folder, manifest = export(
        ExportOptions(
            model=model,
            bits=bits,
            recipe=recipe,
            settings=settings or [],
            target=target,
            output=output,
            overwrite=overwrite,
            calibration=calibration,
            number=number,
            seed=seed,
            language=language,
        ),
        messages,
    )
    if as_json:
        print(manifest.model_dump_json(indent=1))
    else:
        Console().print(export_table(folder, manifest))
