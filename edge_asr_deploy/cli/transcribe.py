"""`edge-deploy transcribe`: audio files to text."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from edge_asr_deploy.cli.on import On, finish
from edge_asr_deploy.cli.running import AccuracyLevel, AudioContext, Target


class Format(StrEnum):
    """How transcripts are printed."""

    TXT = "txt"
    JSON = "json"


def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle to run.")],
    files: Annotated[list[Path], typer.Argument(help="Audio: WAV, FLAC, OGG or MP3, any rate, any length.")],
    language: Annotated[
        str | None, typer.Option(help="Language of the speech (`de`, `german`); a multilingual model detects it.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="`transcribe` or, for multilingual models, `translate` (to English).")
    ] = None,
    target: Target = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads within an operator. Default: the target's.")
    ] = None,
    accuracy_level: AccuracyLevel = None,
    audio_context: AudioContext = "full",
    output: Annotated[Format, typer.Option("--format", help="One line per file, or a JSON list.")] = Format.TXT,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    on: On = None,
) -> None:
    """Transcribe audio files. A file that cannot be read gets one line on stderr, and exit code 2 at the end.

    Examples:

        edge-deploy transcribe exported/whisper-tiny.en-w4 talk.flac memo.wav --json

        edge-deploy transcribe exported/whisper-tiny.en-w4 command.wav --audio-context auto

        edge-deploy transcribe exported/whisper-tiny.en-w4 talk.flac --on pi@raspberrypi
    """
    import dataclasses
    import json

    from edge_asr_deploy.errors import UserError
    from edge_asr_deploy.runtime.audio.reading import read_audio
    from edge_asr_deploy.runtime.decoding.audio_context import parse_audio_context
    from edge_asr_deploy.runtime.targets import Wish
    from edge_asr_deploy.runtime.transcriber import Transcriber

    for_machines = as_json or output is Format.JSON
    # Before anything goes to a board: what is wrong here is wrong there.
    margin = parse_audio_context(audio_context)
    if on:
        _on_boards(on, bundle, files, language, task, threads, accuracy_level, target, audio_context, for_machines)
        return
    transcriber = Transcriber.open(bundle, Wish(threads, accuracy_level, margin), target=target)
    rows = []
    failed = False
    for file in files:
        try:
            samples = read_audio(file)
        except UserError as error:
            typer.echo(f"edge-deploy: {error}", err=True)
            failed = True
            continue
        transcript = transcriber.transcribe(samples, language, task)
        if for_machines:
            rows.append({"file": str(file), "target": transcriber.target, **dataclasses.asdict(transcript)})
        else:
            typer.echo(f"{file}: {transcript.text}" if len(files) > 1 else transcript.text)
    if for_machines:
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    if failed:
        raise typer.Exit(2)


def _on_boards(
    boards: list[str],
    bundle: Path,
    files: list[Path],
    language: str | None,
    task: str | None,
    threads: int | None,
    accuracy_level: int | None,
    target: str | None,
    audio_context: str,
    for_machines: bool,
) -> None:
    """The same on boards: one prints as here; of several, every line and every list is led by its board."""
    import json

    from rich.console import Console

    from edge_asr_deploy.boards.remote import run_on, words
    from edge_asr_deploy.bundle.manifest import read_manifest

    read_manifest(bundle)
    options = {
        "--language": language,
        "--task": task,
        "--target": target,
        "--threads": threads,
        "--accuracy-level": accuracy_level,
        "--audio-context": audio_context,
    }
    messages = Console(stderr=True, highlight=False)
    answers = run_on(boards, ["transcribe", bundle, *files, "--json", *words(options)], messages)
    if for_machines:
        outputs = {answer.board: answer.output for answer in answers}
        typer.echo(json.dumps(outputs if len(boards) > 1 else answers[0].output, indent=1, ensure_ascii=False))
    else:
        for answer in answers:
            for row in answer.output or []:
                led = f"{answer.board}: " * (len(boards) > 1) + f"{row['file']}: " * (len(files) > 1)
                typer.echo(led + row["text"])
    finish(answers)
