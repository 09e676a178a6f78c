"""Stretches of speech, from the probability of speech in every 32 ms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Samples that one probability is about.
CHUNK = 512
# Silero's own: a chunk is speech from the first probability on, and speech goes on until one is below the second.
SPEECH, PAUSE = 0.5, 0.35
# Speech has at least so many such chunks in a row. Of 439 clips of speech all have four; of sounds without any, none.
FEWEST = 2


@dataclass(frozen=True)
class Span:
    """A stretch of speech: its first sample, and the first sample after it."""

    start: int
    end: int


def spans(probabilities: NDArray[np.float32]) -> list[Span]:
    """The stretches of speech, by the probability of every chunk."""
    found: list[Span] = []
    start, end, run = None, 0, 0
    for index, probability in enumerate(probabilities.tolist()):
        run = run + 1 if probability >= SPEECH else 0
        if start is None and run >= FEWEST:
            start = index + 1 - FEWEST
        if start is not None and probability >= PAUSE:
            end = index + 1
        elif start is not None:
            found.append(Span(start * CHUNK, end * CHUNK))
            start = None
    if start is not None:
        found.append(Span(start * CHUNK, end * CHUNK))
    return found


def merged(spans: Sequence[Span], pause: int) -> list[Span]:
    """The spans, those in one that are less than `pause` samples apart."""
    joined: list[Span] = []
    for span in spans:
        if joined and span.start - joined[-1].end < pause:
            joined[-1] = Span(joined[-1].start, span.end)
        else:
            joined.append(span)
    return joined
