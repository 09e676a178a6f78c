"""The options of listening."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.options import Option
from edge_asr_deploy.runtime.options import (
    ACCURACY_LEVEL,
    AUDIO_CONTEXT,
    DEFAULT_AUDIO_CONTEXT,
    LANGUAGE,
    TARGET,
    TASK,
    THREADS,
    parse_audio_context,
)


@dataclass(frozen=True)
class ListenOptions:
    """What to listen to, and how to run the bundle. UserError for options that contradict each other."""

    input: Annotated[Path | None, Option("Listen to this audio file instead of a microphone.")] = None
    realtime: Annotated[
        bool, Option("Play the file as fast as it was spoken, as a microphone would.", name="--realtime", switch=True)
    ] = False
    device: Annotated[str | None, Option("Number or a part of the name of the microphone; see --list-devices.")] = None
    language: Annotated[str | None, LANGUAGE] = None
    task: Annotated[str | None, TASK] = None
    target: Annotated[str | None, TARGET] = None
    threads: Annotated[int | None, THREADS] = None
    accuracy_level: Annotated[int | None, ACCURACY_LEVEL] = None
    audio_context: Annotated[str, AUDIO_CONTEXT] = DEFAULT_AUDIO_CONTEXT

    def __post_init__(self) -> None:
        parse_audio_context(self.audio_context)
        if self.realtime and self.input is None:
            raise UserError("--realtime", "without --input", "a microphone is in real time already; leave it out")
        if self.device is not None and self.input is not None:
            raise UserError("--device", self.device, "--input takes the microphone's place; give one of them")
