"""`edge-deploy analyze`: where a model is hard to quantize."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    model: Annotated[
        str | None, typer.Option(help="Hub id, folder, or short name, as for export. Default: whisper-tiny.en.")
    ] = None,
    bits: Annotated[int | None, typer.Option(help="Shipped recipe whose group sizes are used. Default: 4.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Recipe file, instead of --bits.")] = None,
    bits_choices: Annotated[str, typer.Option(help="Widths to measure, separated by commas.")] = "2,3,4,8",
    clips: Annotated[int, typer.Option(min=1, help="Calibration clips to measure on.")] = 8,
    fisher: Annotated[bool, typer.Option(help="Also the Fisher proxy, from gradients.")] = False,
    words: Annotated[
        bool, typer.Option(help="Also a word error rate against the float model's own text: transcribes anew for each.")
    ] = False,
    calibration: Annotated[str | None, typer.Option(help="Speech to measure on, as for export.")] = None,
    seed: Annotated[int | None, typer.Option(help="Which clips are drawn.")] = None,
    language: Annotated[str, typer.Option(help="Language of the speech (multilingual models).")] = "en",
    output: Annotated[Path | None, typer.Option(help="Folder for analysis.json and plots.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Ranges, kurtosis and outlier channels of weights and activations, and what rounding each matrix alone costs.

    Sensitivities are kept as they are measured: a second run, or one after a kill, goes on where the first stopped.

    Example: `edge-deploy analyze --model whisper-tiny.en --clips 4 --output analysis`
    """
    from rich.console import Console

    from edge_asr_deploy.cli.widths import widths
    from edge_asr_deploy.experiments.analysis.analyze import analyze, tables
    from edge_asr_deploy.export_options import ExportOptions

    options = ExportOptions(
        model=model, bits=bits, recipe=recipe, calibration=calibration, seed=seed, language=language
    )
    messages = Console(stderr=True, highlight=False)
    found = analyze(options, widths(bits_choices), clips, fisher, words, output, messages)
    if as_json:
        print(found.as_json())
    else:
        Console().print(*tables(found), sep="\n")
