"""The options of a transcription."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.options import Option

# How much of its window Whisper's encoder gets: all of it (None), or the clip and so many seconds of silence; with
# `auto` as many as the bundle was made for.
Margin = float | Literal["auto"] | None
# Of a bundle whose window's end was not learned. docs/log/performance.md compares other values.
AUTO_MARGIN = 3.0
ACCURACY_LEVEL = Option(
    "Accuracy level of the low-bit MatMul: 4 (onnxruntime's default) rounds activations to int8, 0 and 1 keep float.",
    least=0,
    most=4,
)
TARGET = Option("Run the bundle's graphs for this target: generic, x86, pi4, pi5. Default: the CPU's.")
AUDIO_CONTEXT = Option(
    "How much audio Whisper's encoder gets: auto (the clip and the silence that the bundle needs), full (30 s), or the "
    "clip and so many s."
)
DEFAULT_AUDIO_CONTEXT = "auto"
LANGUAGE = Option(
    "Language of the speech (`de`, `german`), or `auto`: the model detects it. Default: its own, else `auto`."
)
TASK = Option("`transcribe` or, for multilingual models, `translate` (to English).")
THREADS = Option("Threads within an operator. Default: the target's.", least=1)
VAD = Option("Voice activity detection, `on` or `off`: sounds without speech get no text, pauses cost no time.")


@dataclass(frozen=True)
class TranscribeOptions:
    """How to run a bundle on audio. UserError for an invalid audio context."""

    language: Annotated[str | None, LANGUAGE] = None
    task: Annotated[str | None, TASK] = None
    target: Annotated[str | None, TARGET] = None
    threads: Annotated[int | None, THREADS] = None
    accuracy_level: Annotated[int | None, ACCURACY_LEVEL] = None
    audio_context: Annotated[str, AUDIO_CONTEXT] = DEFAULT_AUDIO_CONTEXT
    vad: Annotated[str, VAD] = "on"
    timestamps: Annotated[
        str | None, Option("Also tell when things were said: `segment` (sentences) or `word` (words in segments).")
    ] = None
    prompt: Annotated[str | None, Option("Text before the audio, whose style and spelling Whisper takes up.")] = None
    hotwords: Annotated[str | None, Option("Words to expect, separated by commas: names, terms (Whisper).")] = None
    previous_text: Annotated[
        str, Option("`on` tells Whisper what it wrote for the window before; windows then run one by one.")
    ] = "off"
    temperature: Annotated[
        str, Option("0, or several numbers (`0,0.2,0.4`): later ones are tried where a text looks wrong.")
    ] = "0"
    clip_timestamps: Annotated[
        str | None, Option("Parts of the audio to transcribe, in seconds: `start,end,start,end,...`.")
    ] = None

    def __post_init__(self) -> None:
        # Checked here, so that a wrong value is refused before anything is sent to a board.
        parse_audio_context(self.audio_context)
        parse_switch("--vad", self.vad)
        self.keywords()

    def keywords(self) -> dict[str, Any]:
        """What `Transcriber.transcribe` takes beside the audio."""
        return {
            "language": self.language,
            "task": self.task,
            "timestamps": self.timestamps,
            "prompt": self.prompt,
            "hotwords": tuple(self.hotwords.split(",")) if self.hotwords else (),
            "previous_text": parse_switch("--previous-text", self.previous_text),
            "temperature": _numbers("--temperature", self.temperature),
            "clip_timestamps": _numbers("--clip-timestamps", self.clip_timestamps or ""),
        }


def _numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UserError(name, text, "write numbers separated by commas, such as 0,0.5") from None


class Opening(Protocol):
    """The options that say how a bundle is opened; some commands have `vad`, too."""

    @property
    def threads(self) -> int | None:
        """Within an operator."""

    @property
    def accuracy_level(self) -> int | None:
        """Of the low-bit MatMul."""

    @property
    def audio_context(self) -> str:
        """`auto`, `full` or a number."""

    @property
    def target(self) -> str | None:
        """By its name."""


def opening(options: Opening) -> dict[str, Any]:
    """The keywords of `Transcriber.open` that options stand for."""
    found = {name: getattr(options, name) for name in ("threads", "accuracy_level", "audio_context", "target")}
    vad = getattr(options, "vad", None)
    return found if vad is None else {**found, "vad": parse_switch("--vad", vad)}


def parse_audio_context(given: str | float | None) -> Margin:
    """The margin after the clip: `auto` as it is, seconds from a number, None (the whole window) from `full` or None.

    UserError for anything else.
    """
    if given is None or given == "full":
        return None
    if given == "auto":
        return "auto"
    try:
        margin = float(given)
    except ValueError:
        margin = math.nan
    if not 0 < margin < math.inf:
        raise UserError("--audio-context", given, "give full, auto, or seconds of silence after the clip")
    return margin


def parse_switch(name: str, given: str) -> bool:
    """True for `on`, False for `off`. UserError for anything else."""
    if given not in ("on", "off"):
        raise UserError(name, given, "give on or off")
    return given == "on"


def margin_of(family: str, margin: Margin) -> Margin:
    """The margin that counts: Moonshine's encoder takes clips as they are, so that there is none."""
    return margin if family == "whisper" else None


def describe_audio_context(margin: Margin) -> str:
    """An audio context in words, for results."""
    if margin is None:
        return "full window"
    return "clip + the bundle's margin" if margin == "auto" else f"clip + {margin:g} s"
