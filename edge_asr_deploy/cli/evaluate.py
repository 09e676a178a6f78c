"""`edge-deploy evaluate`: a bundle beside its float baseline."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.on import On, show
from edge_asr_deploy.cli.running import AccuracyLevel, AudioContext, Target


def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle to measure.")],
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[SPEECH]...", help="Further speech: --data a.jsonl b.jsonl.")
    ] = None,
    baseline: Annotated[
        str, typer.Option(help="Float bundle to compare with; `auto` finds it beside BUNDLE, `none` leaves it out.")
    ] = "auto",
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEECH",
            help="JSONL manifest of speech with text, or a set of the Hub: open-asr:all, open-asr:ami, "
            "open-asr:ami:200 (the first 200 clips), common-voice:en:200. May be given several times.",
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads within an operator.")] = 2,
    accuracy_level: AccuracyLevel = None,
    target: Target = None,
    audio_context: AudioContext = "full",
    language: Annotated[str, typer.Option(help="Language of the speech; decides the text normalizer too.")] = "en",
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many utterances of each corpus.")] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Processes that transcribe at once; speed is always timed alone.")
    ] = 1,
    speed: Annotated[bool, typer.Option(help="Time a few clips, bundle and baseline in turn.")] = True,
    cache: Annotated[bool, typer.Option(help="Reuse transcripts of earlier runs of the same bundle.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="Write the result, with a row per utterance, to this file.")
    ] = None,
    on: On = None,
) -> None:
    """Measure word error rate, size, speed and memory of a bundle, next to its float baseline.

    Examples:

        edge-deploy evaluate exported/whisper-tiny.en-w4 --limit 20 --output result.json

        edge-deploy evaluate exported/whisper-tiny.en-w4 --data open-asr:all --limit 200

        edge-deploy evaluate exported/whisper-tiny.en-w4 --audio-context auto

        edge-deploy evaluate exported/whisper-tiny.en-w4 --on pi@raspberrypi --on pi@10.0.0.5:2222 --output result.json
    """
    from rich.console import Console

    from edge_asr_deploy.harness.evaluation.evaluate import EvaluationSettings, run
    from edge_asr_deploy.harness.reporting.tables import evaluation_table
    from edge_asr_deploy.runtime.decoding.audio_context import parse_audio_context

    messages = Console(stderr=True, highlight=False)
    settings = EvaluationSettings(
        threads=threads,
        accuracy_level=accuracy_level,
        language=language,
        jobs=jobs,
        clips=5 if speed else 0,
        target=target,
        audio_context=parse_audio_context(audio_context),
    )
    speech = [*(data or []), *(more or [])]
    command = shlex.join(["edge-deploy", *sys.argv[1:]])
    if on:
        from edge_asr_deploy.boards.evaluation import evaluate_on

        measured = evaluate_on(on, bundle, baseline, speech, limit, settings, cache, output, messages, command)
        show(measured, as_json, lambda result: [evaluation_table(result)])
        return
    result = run(bundle, baseline, speech, limit, settings, cache, output, messages, command)
    if as_json:
        print(result.model_dump_json(indent=1))
    else:
        Console().print(evaluation_table(result))
