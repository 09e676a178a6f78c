"""What a stream of speech tells while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from edge_asr_deploy.runtime.transcript import Segment


@dataclass(frozen=True)
class SpeechStarted:
    """Somebody speaks since `time`, in seconds of the stream."""

    time: float


@dataclass(frozen=True)
class Partial:
    """What has been said so far in this stretch of speech. `stable` is the beginning of `text` that stays."""

    text: str
    stable: str


@dataclass(frozen=True)
class Final:
    """A stretch of speech that has ended, with the times of its speech in seconds of the stream."""

    segment: Segment


Event = SpeechStarted | Partial | Final
