"""`edge-deploy check`: the CI gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.options import with_options
from edge_asr_deploy.cli.output import say_model
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
    from contextlib import nullcontext
    from functools import partial

    from edge_asr_deploy.cli.console import console
    from edge_asr_deploy.harness.gate import gate
    from edge_asr_deploy.harness.gate.annotations import commands_stopped, github_annotations
    from edge_asr_deploy.harness.reporting.tables import checks_table

    messages = console(stderr=True)
    # With JSON on standard output, what GitHub reads goes to standard error: the runner reads both.
    tell = partial(typer.echo, err=as_json)
    in_github = os.environ.get("GITHUB_ACTIONS") == "true"
    with commands_stopped(tell) if in_github else nullcontext():
        if update_baseline:
            gate.update(bundles, options, messages)
            return
        report = gate.check(bundles, options, messages)
        if as_json:
            say_model(report)
        elif report.bundles:
            console().print(*(checks_table(bundle) for bundle in report.bundles), sep="\n")
    if in_github:
        for line in github_annotations(report):
            tell(line)
    if not report.passed:
        raise typer.Exit(1)
