"""What a caller asks of a transcription beyond its text: times, prompts, temperatures, parts of the audio."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Self, get_args

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE

TimesOf = Literal["segment", "word"]


@dataclass(frozen=True)
class Request:
    """Everything is off by default. UserError for a value that means nothing.

    `temperatures` are tried in this order until a text looks right. `ranges` are parts of the recording, in seconds.
    """

    timestamps: TimesOf | None = None
    prompt: str | None = None
    hotwords: tuple[str, ...] = ()
    previous_text: bool = False
    temperatures: tuple[float, ...] = (0.0,)
    ranges: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(
        cls,
        timestamps: str | None = None,
        prompt: str | None = None,
        hotwords: Sequence[str] = (),
        previous_text: bool = False,
        temperature: float | Sequence[float] = 0.0,
        beam_size: int = 1,
        clip_timestamps: Sequence[float] = (),
    ) -> Self:
        """From the keywords of `Transcriber.transcribe`."""
        if timestamps is not None and timestamps not in get_args(TimesOf):
            raise UserError("--timestamps", timestamps, f"choose one of {', '.join(get_args(TimesOf))}")
        if beam_size != 1:
            raise UserError("beam_size", beam_size, "only the best token is followed here; leave it out")
        temperatures = tuple(map(float, temperature if isinstance(temperature, Sequence) else (temperature,)))
        if not temperatures or not all(0 <= one <= 1 for one in temperatures):
            text = ",".join(f"{one:g}" for one in temperatures)
            raise UserError("--temperature", text, "give numbers from 0 to 1")
        words = (hotwords,) if isinstance(hotwords, str) else tuple(hotwords)
        named: TimesOf | None = "segment" if timestamps == "segment" else "word" if timestamps == "word" else None
        return cls(
            named,
            (prompt or "").strip() or None,
            tuple(word.strip() for word in words if word.strip()),
            previous_text,
            temperatures,
            _ranges(clip_timestamps),
        )

    @property
    def needs_scores(self) -> bool:
        """Whether log-probabilities are to be written down."""
        return self.timestamps is not None or len(self.temperatures) > 1


def _ranges(times: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Start, end, start, end, ...; without the last end the range goes to the end of the audio."""
    given = tuple(float(time) for time in times)
    if any(not 0 <= time < math.inf for time in given) or any(b <= a for a, b in pairwise(given)):
        text = ",".join(f"{time:g}" for time in given)
        raise UserError("--clip-timestamps", text, "give start,end,start,end,... in seconds, each after the last")
    ends = (*given[1::2], math.inf) if len(given) % 2 else given[1::2]
    return tuple(zip(given[::2], ends, strict=True))


def parts_of(samples: int, ranges: Sequence[tuple[float, float]]) -> list[tuple[int, int]]:
    """First and last sample of the parts of a recording that are asked for; all of it without ranges."""
    parts = [(round(start * SAMPLE_RATE), round(min(end * SAMPLE_RATE, samples))) for start, end in ranges]
    return [(start, end) for start, end in parts if start < end] if parts else [(0, samples)]
