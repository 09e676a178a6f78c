"""`edge-deploy analyze`: which parts of a model are hard to quantize."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    model: Annotated[
        str | None, typer.Option(help="Hub id, folder, or short name, as for export. Default: whisper-tiny.en.")
    ] = None,
    bits: Annotated[int | None, typer.Option(help="Use the group sizes of this shipped recipe. Default: 4.")] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Use the group sizes of this recipe file instead of --bits.")
    ] = None,
    bits_choices: Annotated[str, typer.Option(help="Widths to measure, separated by commas.")] = "2,3,4,8",
    clips: Annotated[int, typer.Option(min=1, help="Number of calibration clips to measure on.")] = 8,
    fisher: Annotated[bool, typer.Option(help="Also compute the Fisher proxy from gradients.")] = False,
    words: Annotated[
        bool, typer.Option(help="Also measure a word error rate against the float model's own text (slow).")
    ] = False,
    calibration: Annotated[str | None, typer.Option(help="Speech to measure on, as for export.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed that decides which clips are drawn.")] = None,
    language: Annotated[str, typer.Option(help="Language of the speech, for multilingual models.")] = "en",
    output: Annotated[Path | None, typer.Option(help="Write analysis.json and plots to this folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show ranges, kurtosis and outlier channels of weights and activations, and what rounding each matrix alone costs.

    Measured sensitivities are stored at once, so that a run that was interrupted continues where it stopped.

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
    analysis = analyze(options, widths(bits_choices), clips, fisher, words, output, messages)
    if as_json:
        print(analysis.as_json())
    else:
        Console().print(*tables(analysis), sep="\n")
