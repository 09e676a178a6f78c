"""`edge-deploy check`: the CI gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.options import with_options
from edge_asr_deploy.harness.gate.options import CheckOptions


@with_options(CheckOptions)
def command(
    bundles: Annotated[
        list[Path],
        typer.Argument(
            metavar="BUNDLE...", help="Folders of bundles, or their records in the folder `baselines` beside them."
        ),
    ],
    options: CheckOptions,
    update_baseline: Annotated[
        bool, typer.Option("--update-baseline", help="Measure the bundles and write their records instead of checking.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check bundles against records of good ones: files, graphs, tokens, word error rate, size and speed.

    The exit code is 1 when a check fails or could not be measured, and 2 for bad input. In GitHub Actions, each finding
    becomes an annotation.

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

    messages = Console(stderr=True, highlight=False)
    if update_baseline:
        gate.update(bundles, options, messages)
        return
    report = gate.check(bundles, options, messages)
    if as_json:
        print(report.model_dump_json(indent=1))
    elif report.bundles:
        Console().print(*(checks_table(bundle) for bundle in report.bundles), sep="\n")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in github_annotations(report):
            typer.echo(line, err=as_json)
    if not report.passed:
        raise typer.Exit(1)
