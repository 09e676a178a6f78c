"""`edge-deploy evaluate`: measures a bundle beside its float baseline."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.on import KeepAudio, On, show
from edge_asr_deploy.cli.options import with_options
from edge_asr_deploy.cli.output import say_model
from edge_asr_deploy.harness.evaluation.options import EvaluateOptions


@with_options(EvaluateOptions)
def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle to measure.")],
    options: EvaluateOptions,
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[SPEECH]...", help="Further speech, as in: --data a.jsonl b.jsonl.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    on: On = None,
    keep_audio: KeepAudio = False,
) -> None:
    """Measure word error rate, size, speed and memory of a bundle, next to its float baseline.

    Examples:

        edge-deploy evaluate exported/whisper-tiny.en-w4 --limit 20 --output result.json

        edge-deploy evaluate exported/whisper-tiny.en-w4 --data open-asr:all --limit 200

        edge-deploy evaluate exported/whisper-tiny.en-w4 --audio-context auto

        edge-deploy evaluate exported/whisper-tiny.en-w4 --on pi@raspberrypi --on pi@10.0.0.5:2222 --output result.json
    """
    from edge_asr_deploy.cli.console import console
    from edge_asr_deploy.harness.evaluation.evaluate import run
    from edge_asr_deploy.harness.reporting.tables import evaluation_table

    messages = console(stderr=True)
    options = replace(options, data=(*options.data, *(more or [])))
    command = shlex.join(["edge-deploy", *sys.argv[1:]])
    if on:
        from edge_asr_deploy.boards.evaluation import evaluate_on

        measured = evaluate_on(on, bundle, options, messages, command, keep_audio)
        show(measured, as_json, lambda result: [evaluation_table(result)])
        return
    result = run(bundle, options, messages, command)
    if as_json:
        say_model(result)
    else:
        console().print(evaluation_table(result))
