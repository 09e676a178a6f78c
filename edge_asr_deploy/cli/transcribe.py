"""`edge-deploy transcribe`: audio files to text."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_asr_deploy.cli.errors import error_line
from edge_asr_deploy.cli.on import KeepAudio, On, finish
from edge_asr_deploy.cli.options import with_options
from edge_asr_deploy.cli.output import say, say_json
from edge_asr_deploy.cli.transcripts import SUBTITLES, Format, rendered, require_names, write
from edge_asr_deploy.printing import decodable, one_line
from edge_asr_deploy.runtime.options import TranscribeOptions, opening

if TYPE_CHECKING:
    from edge_asr_deploy.boards.remote import Answer
    from edge_asr_deploy.boards.sync import Files
    from edge_asr_deploy.runtime.transcriber import Transcriber
    from edge_asr_deploy.runtime.transcript import Transcript


@with_options(TranscribeOptions)
def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle to run.")],
    files: Annotated[
        list[Path],
        typer.Argument(help="Audio files (WAV, FLAC, OGG, MP3) of any sample rate, or - for standard input."),
    ],
    options: TranscribeOptions,
    output: Annotated[
        Format,
        typer.Option(
            "--format", help="A line per file, a JSON list, a JSON object per line, or subtitles with segment times."
        ),
    ] = Format.TXT,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", help="Write a file for each audio file to this folder instead.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    on: On = None,
    keep_audio: KeepAudio = False,
) -> None:
    """Transcribe audio files. A file that cannot be read is reported on stderr; the exit code is then 2.

    Examples:

        edge-deploy transcribe exported/whisper-tiny.en-w4 talk.flac memo.wav --json

        edge-deploy transcribe exported/whisper-tiny.en-w4 command.wav --audio-context auto

        arecord -d 5 -f S16_LE -r 16000 | edge-deploy transcribe exported/whisper-tiny.en-w4 -

        edge-deploy transcribe exported/whisper-tiny.en-w4 talk.flac --on pi@raspberrypi

        edge-deploy transcribe exported/whisper-tiny.en-w4 talks/*.flac --format srt --output-dir subtitles
    """
    output = Format.JSON if as_json else output
    if output in SUBTITLES and options.timestamps is None:
        options = dataclasses.replace(options, timestamps="segment")
    _require_sense(options)
    require_names(output_dir, output, files)
    if on:
        _on_boards(on, bundle, files, options, output, output_dir, keep_audio)
        return

    from edge_asr_deploy.runtime.transcriber import Transcriber

    transcriber = Transcriber.open(bundle, **opening(options))
    rows: list[dict[str, Any]] = []
    done, code = 0, 0
    try:
        for file in files:
            transcript = _transcribed(transcriber, file, options)
            if transcript is None:
                code = 2
                continue
            done += 1
            row = {"file": decodable(str(file)), "target": transcriber.target, **dataclasses.asdict(transcript)}
            if output_dir is not None:
                write(output_dir, str(file), row, output)
            elif output is Format.JSON:
                rows.append(row)
            elif output is Format.JSONL:
                say_json(row)
            elif output in SUBTITLES:
                say(rendered(row, output).rstrip("\n"))
            else:
                # A bundle's tokenizer may hold any character.
                text = one_line(transcript.text)
                say(f"{one_line(str(file))}: {text}" if len(files) > 1 else text)
    except KeyboardInterrupt:
        # After the texts that are finished: a list is printed below.
        typer.echo(error_line(f"interrupted; {done} of {len(files)} files were transcribed"), err=True)
        code = 130
    finally:
        if output is Format.JSON and output_dir is None and (rows or sys.exc_info()[0] is None):
            say_json(rows, indent=1)
    if code:
        raise typer.Exit(code)


def _transcribed(transcriber: Transcriber, file: Path, options: TranscribeOptions) -> Transcript | None:
    """The transcript of a file. None, and a line on standard error, when the file cannot be read."""
    from edge_asr_deploy.errors import UserError
    from edge_asr_deploy.runtime.audio.reading import read_audio

    try:
        samples = read_audio(file)
    except UserError as error:
        typer.echo(error_line(error), err=True)
        return None
    return transcriber.transcribe(samples, **options.keywords())


def _require_sense(options: TranscribeOptions) -> None:
    """UserError for options that mean nothing, before a bundle is opened or sent to a board."""
    from edge_asr_deploy.runtime.decoding.request import Request

    asked = options.keywords()
    del asked["language"], asked["task"]
    Request.of(**asked)


def _on_boards(
    boards: list[str],
    bundle: Path,
    files: list[Path],
    options: TranscribeOptions,
    output: Format,
    output_dir: Path | None,
    keep_audio: bool,
) -> None:
    """Transcribe on boards.

    One board's transcripts are printed as if made here. With several boards, each line begins with the board's name,
    JSON is an object with one list per board, and a JSON object on a line of its own has the board as a field.
    """
    from edge_asr_deploy.boards.remote import run_on
    from edge_asr_deploy.boards.results import transcripts_of
    from edge_asr_deploy.bundle.manifest import read_manifest
    from edge_asr_deploy.cli.console import console
    from edge_asr_deploy.options import words

    read_manifest(bundle)
    messages = console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        sent = [_sendable(file, Path(folder) / str(number)) for number, file in enumerate(files)]
        arguments = ["transcribe", bundle, *sent, "--json", *words(options)]
        answers = transcripts_of(run_on(boards, arguments, messages, keep_audio))
    if output_dir is not None:
        for answer in answers:
            for row in answer.output or []:
                write(output_dir, str(row["file"]), row, output, answer.board if len(boards) > 1 else None)
    elif output is Format.JSON:
        outputs = {answer.board: answer.output for answer in answers}
        say_json(outputs if len(boards) > 1 else answers[0].output, indent=1)
    elif output is Format.JSONL:
        for answer in answers:
            for row in answer.output or []:
                say_json({"board": answer.board, **row} if len(boards) > 1 else row)
    elif output in SUBTITLES:
        for answer in answers:
            for row in answer.output or []:
                say(rendered(row, output).rstrip("\n"))
    else:
        for line in _lines(answers, len(files) > 1):
            say(line)
    finish(answers)


def _sendable(file: Path, copy: Path) -> Path | Files:
    """A file to send to boards. What a pipe or standard input holds is written to `copy` and keeps its name."""
    from edge_asr_deploy.boards.sync import Files
    from edge_asr_deploy.errors import UserError
    from edge_asr_deploy.runtime.audio.containers.stored import Refused
    from edge_asr_deploy.runtime.audio.opening import is_stream, opened

    if not is_stream(file):
        return file
    try:
        with opened(file) as stream, copy.open("wb") as written:
            stream.seek(0)
            shutil.copyfileobj(stream, written)
    except Refused as fault:
        raise UserError("audio", file, str(fault)) from None
    return Files(f"{copy.name}/stream", {f"{copy.name}/stream": copy}, str(file))


def _lines(answers: Sequence[Answer], name_files: bool) -> list[str]:
    """One line per transcript: its text, after the board's and the file's names if there are several of them."""
    lines = []
    for answer in answers:
        for row in answer.output or []:
            parts = [one_line(row["text"])]
            if name_files:
                parts.insert(0, one_line(row["file"]))
            if len(answers) > 1:
                parts.insert(0, answer.board)
            lines.append(": ".join(parts))
    return lines
