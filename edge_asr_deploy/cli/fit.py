"""`edge-deploy fit`: chooses bits for every matrix under a budget."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Rule(StrEnum):
    """The rule that chooses bits."""

    KNAPSACK = "knapsack"
    MYQASR = "myqasr"


class Proxy(StrEnum):
    """The quantity that estimates the damage done by rounding."""

    KL = "kl"
    FISHER = "fisher"


def command(
    output: Annotated[
        Path, typer.Option(help="Recipe file to write; measurements go to the folder NAME.fit beside it.")
    ],
    model: Annotated[
        str | None, typer.Option(help="Hub id, folder, or short name, as for export. Default: whisper-tiny.en.")
    ] = None,
    max_mb: Annotated[
        float | None, typer.Option(help="Largest total size of the *.onnx files, in MB (10^6 bytes).")
    ] = None,
    max_wer_rise: Annotated[
        float | None,
        typer.Option(help="Find the smallest bundle whose WER, on onnxruntime, rises by at most this many points."),
    ] = None,
    bits: Annotated[int | None, typer.Option(help="Shipped recipe to start from. Default: 4.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Recipe file to start from, instead of --bits.")] = None,
    target: Annotated[str | None, typer.Option(help="Target of the recipe.")] = None,
    bits_choices: Annotated[str, typer.Option(help="Widths to choose from.")] = "2,3,4,5,6,8",
    trials: Annotated[
        int, typer.Option(min=0, help="Number of trials of the joint search over method options (Optuna).")
    ] = 0,
    rule: Annotated[
        Rule, typer.Option(help="`myqasr` is a baseline: it takes bits from layers with small outputs first.")
    ] = (Rule.KNAPSACK),
    proxy: Annotated[
        Proxy, typer.Option(help="`kl` is the measured divergence, `fisher` its estimate from gradients.")
    ] = Proxy.KL,
    clips: Annotated[
        int, typer.Option(min=1, help="Number of calibration clips that sensitivities are measured on.")
    ] = 8,
    held_out: Annotated[
        int, typer.Option(min=1, help="Number of further calibration clips to measure --max-wer-rise on.")
    ] = 50,
    data: Annotated[
        list[Path] | None, typer.Option(help="JSONL manifest with references to measure --max-wer-rise on instead.")
    ] = None,
    calibration: Annotated[str | None, typer.Option(help="Speech to measure on, as for export.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed that decides which clips are drawn.")] = None,
    language: Annotated[str, typer.Option(help="Language of the speech, for multilingual models.")] = "en",
    overwrite: Annotated[bool, typer.Option(help="Replace an existing recipe file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Choose bits per matrix from measured sensitivities, and write a recipe that `edge-deploy export --recipe` takes.

    No reference text is needed: sensitivities are measured against the float model's own transcripts of calibration
    speech.

    Examples:

        edge-deploy fit --model whisper-tiny.en --max-mb 18 --output fit18.yaml

        edge-deploy fit --model moonshine-tiny --max-wer-rise 0.5 --data dev.jsonl --output fit.yaml
    """
    from rich.console import Console

    from edge_asr_deploy.cli.widths import widths
    from edge_asr_deploy.experiments.mixed.fit import Goal, fit
    from edge_asr_deploy.experiments.mixed.report import fit_table
    from edge_asr_deploy.export_options import ExportOptions

    request = ExportOptions(
        model=model,
        bits=bits,
        recipe=recipe,
        overwrite=overwrite,
        calibration=calibration,
        seed=seed,
        language=language,
    )
    goal = Goal(
        max_mb=max_mb,
        max_wer_rise=max_wer_rise,
        choices=widths(bits_choices),
        rule=rule.value,
        proxy=proxy.value,
        trials=trials,
        clips=clips,
        held_out=held_out,
        data=tuple(data or ()),
        target=target,
    )
    result = fit(request, goal, output, Console(stderr=True, highlight=False))
    if as_json:
        print(result.as_json())
    else:
        Console().print(fit_table(result))
