"""`edge-deploy transcribe`: audio files to text."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_asr_deploy.cli.errors import error_line
from edge_asr_deploy.cli.on import On, finish
from edge_asr_deploy.cli.options import with_options
from edge_asr_deploy.runtime.options import TranscribeOptions

if TYPE_CHECKING:
    from edge_asr_deploy.boards.remote import Answer


class Format(StrEnum):
    """How transcripts are printed."""

    TXT = "txt"
    JSON = "json"


@with_options(TranscribeOptions)
def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle to run.")],
    files: Annotated[
        list[Path], typer.Argument(help="Audio files (WAV, FLAC, OGG, MP3) of any sample rate and any length.")
    ],
    options: TranscribeOptions,
    output: Annotated[Format, typer.Option("--format", help="Print one line per file, or a JSON list.")] = Format.TXT,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    on: On = None,
) -> None:
    """Transcribe audio files. A file that cannot be read is reported on stderr; the exit code is then 2.

    Examples:

        edge-deploy transcribe exported/whisper-tiny.en-w4 talk.flac memo.wav --json

        edge-deploy transcribe exported/whisper-tiny.en-w4 command.wav --audio-context auto

        edge-deploy transcribe exported/whisper-tiny.en-w4 talk.flac --on pi@raspberrypi
    """
    import dataclasses
    import json

    for_machines = as_json or output is Format.JSON
    if on:
        _on_boards(on, bundle, files, options, for_machines)
        return

    from edge_asr_deploy.errors import UserError
    from edge_asr_deploy.runtime.audio.reading import read_audio
    from edge_asr_deploy.runtime.transcriber import Transcriber

    transcriber = Transcriber.open(
        bundle,
        threads=options.threads,
        accuracy_level=options.accuracy_level,
        audio_context=options.audio_context,
        target=options.target,
    )
    rows = []
    failed = False
    for file in files:
        try:
            samples = read_audio(file)
        except UserError as error:
            typer.echo(error_line(error), err=True)
            failed = True
            continue
        transcript = transcriber.transcribe(samples, options.language, options.task)
        if for_machines:
            rows.append({"file": str(file), "target": transcriber.target, **dataclasses.asdict(transcript)})
        else:
            typer.echo(f"{file}: {transcript.text}" if len(files) > 1 else transcript.text)
    if for_machines:
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    if failed:
        raise typer.Exit(2)


def _on_boards(
    boards: list[str], bundle: Path, files: list[Path], options: TranscribeOptions, for_machines: bool
) -> None:
    """Transcribe on boards.

    One board's transcripts are printed as if made here. With several boards, each line begins with the board's name,
    and JSON is an object with one list per board.
    """
    import json

    from rich.console import Console

    from edge_asr_deploy.boards.remote import run_on
    from edge_asr_deploy.bundle.manifest import read_manifest
    from edge_asr_deploy.options import words

    read_manifest(bundle)
    messages = Console(stderr=True, highlight=False)
    answers = run_on(boards, ["transcribe", bundle, *files, "--json", *words(options)], messages)
    if for_machines:
        outputs = {answer.board: answer.output for answer in answers}
        typer.echo(json.dumps(outputs if len(boards) > 1 else answers[0].output, indent=1, ensure_ascii=False))
    else:
        for line in _lines(answers, len(files) > 1):
            typer.echo(line)
    finish(answers)


def _lines(answers: Sequence[Answer], name_files: bool) -> list[str]:
    """One line per transcript: its text, after the board's and the file's names if there are several of them."""
    lines = []
    for answer in answers:
        for row in answer.output or []:
            parts = [row["text"]]
            if name_files:
                parts.insert(0, row["file"])
            if len(answers) > 1:
                parts.insert(0, answer.board)
            lines.append(": ".join(parts))
    return lines
