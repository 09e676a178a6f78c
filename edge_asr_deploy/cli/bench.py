"""`edge-deploy bench`: how fast a bundle is here."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.on import On, show
from edge_asr_deploy.cli.running import AccuracyLevel, AudioContext, Target


def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle to time.")],
    baseline: Annotated[
        str, typer.Option(help="Bundle to time in turn with it; `auto` finds the float one beside BUNDLE, `none`.")
    ] = "none",
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEECH", help="Speech to cut the audio from, as for evaluate. May be given several times."
        ),
    ] = None,
    threads: Annotated[
        str, typer.Option(help="Threads within an operator; several numbers (1,2,4) are a sweep.")
    ] = "2",
    accuracy_level: AccuracyLevel = None,
    target: Target = None,
    audio_context: AudioContext = "full",
    language: Annotated[str, typer.Option(help="Language of the speech (multilingual models).")] = "en",
    lengths: Annotated[str, typer.Option(help="Seconds of audio, separated by commas.")] = "1.5,3,10,30,75",
    rounds: Annotated[int, typer.Option(min=1, help="Fresh processes; every length is timed once in each.")] = 5,
    soak: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Then keep one process busy so long, and watch its memory.")
    ] = 0.0,
    profile: Annotated[bool, typer.Option("--profile", help="Then show which operators take the time.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    output: Annotated[Path | None, typer.Option(help="Write the result as JSON to this file.")] = None,
    on: On = None,
) -> None:
    """Time loading, encoder, first token, every token and the whole, for audio from a command to several windows.

    Bundle and baseline run in turn (A B A B), each in a process of its own. Exit code 1 when the board throttled
    meanwhile: its times are shown, but not compared.

    Examples:

        edge-deploy bench exported/whisper-tiny.en-w4 --baseline auto --output bench.json

        edge-deploy bench exported/whisper-tiny.en-w4 --threads 1,2,4 --soak 600 --profile

        edge-deploy bench exported/whisper-tiny.en-w4 --on pi@raspberrypi --on pi@10.0.0.5:2222 --output bench.json
    """
    from rich.console import Console

    from edge_asr_deploy.cli.numbers import numbers
    from edge_asr_deploy.harness.benchmark.bench import run
    from edge_asr_deploy.harness.benchmark.report import bench_tables
    from edge_asr_deploy.harness.benchmark.result import Options
    from edge_asr_deploy.runtime.decoding.audio_context import parse_audio_context

    messages = Console(stderr=True, highlight=False)
    options = Options(
        threads=numbers("--threads", threads, int),
        accuracy_level=accuracy_level,
        target=target,
        audio_context=parse_audio_context(audio_context),
        language=language,
        lengths=numbers("--lengths", lengths, float),
        rounds=rounds,
        soak=soak,
        profile=profile,
    )
    command = shlex.join(["edge-deploy", *sys.argv[1:]])
    if on:
        from edge_asr_deploy.boards.benchmark import bench_on

        show(bench_on(on, bundle, baseline, data or [], options, output, messages, command), as_json, bench_tables)
        return
    found = run(bundle, baseline, data or [], options, output, messages, command)
    if as_json:
        print(found.model_dump_json(indent=1))
    else:
        Console().print(*bench_tables(found), sep="\n")
    for reason in found.disturbances:
        messages.print(f"Disturbed: {reason}.", style="red", markup=False)
    if found.baseline and found.disturbances:
        messages.print("Not compared: let the board cool down or mend its supply, and measure again.", style="red")
        raise typer.Exit(1)
