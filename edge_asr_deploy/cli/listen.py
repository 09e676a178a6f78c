"""`edge-deploy listen`: speech from a microphone to text, while it is spoken."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_asr_deploy.cli.options import with_options
from edge_asr_deploy.cli.output import say, say_json
from edge_asr_deploy.printing import one_line
from edge_asr_deploy.runtime.live.options import ListenOptions
from edge_asr_deploy.runtime.options import opening

if TYPE_CHECKING:
    from edge_asr_deploy.runtime.live.events import Event

CLEAR, DIM, PLAIN = "\r\x1b[K", "\x1b[2m", "\x1b[0m"


@with_options(ListenOptions)
def command(
    options: ListenOptions,
    bundle: Annotated[Path | None, typer.Argument(help="Folder of the bundle to run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every event as a JSON object on a line of its own.")] = False,
    list_devices: Annotated[bool, typer.Option("--list-devices", help="List the microphones, and end.")] = False,
) -> None:
    """Write what is said into a microphone, until Ctrl-C. A line is final when its speaker pauses.

    In a terminal the text grows as it is spoken, and what may still change is grey. Needs the extra `[live]`.

    Examples:

        edge-deploy listen exported/whisper-tiny.en-w4

        edge-deploy listen exported/whisper-tiny.en-w4 --list-devices

        edge-deploy listen exported/whisper-tiny.en-w4 --input talk.flac --realtime --json
    """
    from edge_asr_deploy.errors import UserError
    from edge_asr_deploy.runtime.live.sources import devices, played, recorded
    from edge_asr_deploy.runtime.transcriber import Transcriber

    if list_devices:
        say(devices())
        return
    if bundle is None:
        raise UserError("bundle", "missing", "name the folder of a bundle: `edge-deploy listen BUNDLE`")
    transcriber = Transcriber.open(bundle, **opening(options))
    stream = transcriber.stream(options.language, options.task)
    source = recorded(options.device) if options.input is None else played(options.input, options.realtime)
    try:
        for block in source:
            _show(stream.push(block), as_json)
    except KeyboardInterrupt:
        # The usual end: what was being said is written, too.
        pass
    _show(stream.finish(), as_json)


def _show(events: Iterable[Event], as_json: bool) -> None:
    from edge_asr_deploy.runtime.live.events import Final, Partial

    for event in events:
        if as_json:
            kind = "speech_started" if not isinstance(event, Partial | Final) else type(event).__name__.lower()
            say_json({"event": kind, **dataclasses.asdict(event)})
        elif isinstance(event, Final):
            if event.segment.text:
                say((CLEAR if sys.stdout.isatty() else "") + one_line(event.segment.text))
        elif isinstance(event, Partial) and sys.stdout.isatty():
            _show_partial(one_line(event.stable), one_line(event.text))


def _show_partial(stable: str, text: str) -> None:
    """The end of a growing text, as much as fits a line; what may still change is grey."""
    room = max(10, shutil.get_terminal_size().columns - 1)
    start = max(0, len(text) - room)
    sys.stdout.write(f"{CLEAR}{stable[start:]}{DIM}{text[max(start, len(stable)) :]}{PLAIN}")
    sys.stdout.flush()
