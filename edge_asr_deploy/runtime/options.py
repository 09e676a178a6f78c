"""What a user asks of a transcription."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families.whisper import TAIL_SECONDS
from edge_asr_deploy.options import Option

# Seconds of silence after the clip that `auto` means: docs/log/performance.md has what others cost.
AUTO_MARGIN = 3.0
ACCURACY_LEVEL = Option(
    "Of the low-bit MatMul: 4, onnxruntime's default, rounds activations to int8; 0 and 1 keep them float.",
    least=0,
    most=4,
)
TARGET = Option("Which target's graphs of the bundle run: generic, x86, pi4, pi5. Default: by CPU.")
AUDIO_CONTEXT = Option(
    "How much of its window Whisper's encoder is given: full (30 s), auto, or seconds of silence after the clip."
)


@dataclass(frozen=True)
class TranscribeOptions:
    """How to run a bundle on audio. UserError for an audio context that is none."""

    language: Annotated[
        str | None, Option("Language of the speech (`de`, `german`); a multilingual model detects it.")
    ] = None
    task: Annotated[str | None, Option("`transcribe` or, for multilingual models, `translate` (to English).")] = None
    target: Annotated[str | None, TARGET] = None
    threads: Annotated[int | None, Option("Threads within an operator. Default: the target's.", least=1)] = None
    accuracy_level: Annotated[int | None, ACCURACY_LEVEL] = None
    audio_context: Annotated[str, AUDIO_CONTEXT] = "full"

    def __post_init__(self) -> None:
        # Before anything goes to a board: what is wrong here is wrong there.
        parse_audio_context(self.audio_context)


def parse_audio_context(given: str | float | None) -> float | None:
    """The seconds of margin after the clip that are meant by `full` or None (None: the whole window), `auto`, or a
    number of seconds. UserError for anything else."""
    if given is None or given == "full":
        return None
    if given == "auto":
        return AUTO_MARGIN
    try:
        margin = float(given)
    except ValueError:
        margin = math.nan
    if not TAIL_SECONDS <= margin < math.inf:
        remedy = f"give full, auto, or seconds of silence after the clip, {TAIL_SECONDS} at least"
        raise UserError("--audio-context", given, remedy)
    return margin


def describe_audio_context(margin: float | None) -> str:
    """The same in words."""
    return "full window" if margin is None else f"clip + {margin:g} s"
