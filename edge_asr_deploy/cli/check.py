"""`edge-deploy check`: the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    bundles: Annotated[
        list[Path],
        typer.Argument(metavar="BUNDLE...", help="Folders of bundles, or the records in `baselines` beside them."),
    ],
    baseline: Annotated[
        Path | None,
        typer.Option(help="Record to compare with, or a folder of NAME.json. Default: `baselines` beside the bundle."),
    ] = None,
    float_bundle: Annotated[
        str, typer.Option("--float", help="Float bundle for the speed ratio; `auto` finds it beside BUNDLE, `none`.")
    ] = "auto",
    data: Annotated[
        list[Path] | None, typer.Option(help="JSONL manifest with the record's clips; may be given several times.")
    ] = None,
    tolerance: Annotated[
        list[str] | None, typer.Option(help="Override one tolerance of the record: wer_absolute=0.02. May be repeated.")
    ] = None,
    allow_unmeasured: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECK", help="Let this check (or `speed`) be not measured. May be repeated."),
    ] = None,
    update_baseline: Annotated[
        bool, typer.Option("--update-baseline", help="Measure and write the record instead of checking.")
    ] = False,
    number: Annotated[int, typer.Option(min=1, help="Clips of a new record.")] = 40,
    threads: Annotated[int | None, typer.Option(min=1, help="Of a new record: threads within an operator.")] = None,
    accuracy_level: Annotated[
        int | None, typer.Option(min=0, max=4, help="Of a new record: accuracy level of the low-bit MatMul.")
    ] = None,
    audio_context: Annotated[
        str | None, typer.Option(help="Of a new record: full, auto, or seconds after the clip for Whisper's encoder.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Of a new record: language of the speech.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the checks as JUnit XML.")] = None,
) -> None:
    """Check bundles against the records of the good ones: files, graphs, tokens, word error rate, size and speed.

    Exit code 1 when a check fails or is not measured, 2 for bad input. In GitHub Actions each finding is annotated.

    Examples:

        edge-deploy check exported/whisper-tiny.en-w4 --update-baseline

        edge-deploy check exported/whisper-tiny.en-w4 --baseline exported/baselines/whisper-tiny.en-w4.json

        edge-deploy check exported/*-w4 --junit check.xml --allow-unmeasured speed
    """
    import os

    from rich.console import Console

    from edge_asr_deploy.harness.gate import gate
    from edge_asr_deploy.harness.gate.annotations import github_annotations
    from edge_asr_deploy.harness.reporting.tables import checks_table
    from edge_asr_deploy.runtime.decoding.audio_context import parse_audio_context

    messages = Console(stderr=True, highlight=False)
    given = {"threads": threads, "accuracy_level": accuracy_level, "language": language}
    listening: dict[str, object] = {key: value for key, value in given.items() if value is not None}
    if audio_context is not None:
        listening["audio_context"] = parse_audio_context(audio_context)
    options = gate.Options(
        data=data or [],
        float_bundle=float_bundle,
        tolerances=tolerance or [],
        number=number,
        listening=listening,
    )
    if update_baseline:
        gate.update(bundles, baseline, options, messages)
        return
    report = gate.check(bundles, baseline, options, allow_unmeasured or [], junit, messages)
    if as_json:
        print(report.model_dump_json(indent=1))
    else:
        Console().print(*(checks_table(bundle) for bundle in report.bundles), sep="\n")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in github_annotations(report):
            typer.echo(line, err=as_json)
    if not report.passed:
        raise typer.Exit(1)
