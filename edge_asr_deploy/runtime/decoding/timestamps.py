"""Whisper's timestamp tokens: the rules of openai/whisper by which decoding writes when a segment begins and ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# From one timestamp token to the next, in seconds.
PRECISION = 0.02
# The first segment begins within the first second of its window (openai/whisper's `max_initial_timestamp`).
LATEST_FIRST = 1.0


@dataclass(frozen=True)
class Timestamps:
    """The tokens of a model with times: `first` stands for 0 s, `end` ends the text, `never` is `<|notimestamps|>`."""

    first: int
    end: int
    never: int

    def restrict(self, scores: NDArray[np.float32], tokens: Sequence[int], seconds: float) -> None:
        """Lower the scores (vocabulary,) of what may not follow `tokens` in a window of so many seconds.

        A text begins with a time. Times come in pairs, the end of a segment and the begin of the next, except before
        the end of the text. They never decrease, and no segment is empty. A time is taken where all times together are
        more likely than the best other token. Beyond openai/whisper's rules, no time lies behind the audio.
        """
        scores[self.never] = -np.inf
        times = scores[self.first :]
        last = round(seconds / PRECISION)
        if not tokens:
            scores[: self.first] = -np.inf
            last = min(last, round(LATEST_FIRST / PRECISION))
        times[last + 1 :] = -np.inf
        is_time = [token >= self.first for token in tokens[-2:]]
        if is_time and is_time[-1]:
            if all(is_time):
                times[:] = -np.inf
            else:
                scores[: self.end] = -np.inf
        earlier = next((token for token in reversed(tokens) if token >= self.first), None)
        if earlier is not None:
            may_repeat = is_time == [False, True]
            times[: earlier - self.first + (not may_repeat)] = -np.inf
        if tokens and _log_sum(times) > scores[: self.first].max():
            scores[: self.first] = -np.inf

    def without(self, tokens: Sequence[int]) -> list[int]:
        """The tokens that are no times."""
        return [token for token in tokens if token < self.first]

    def seconds(self, token: int) -> float | None:
        """The time that a token stands for; None for any other token."""
        return (token - self.first) * PRECISION if token >= self.first else None


def _log_sum(scores: NDArray[np.float32]) -> float:
    best = scores.max(initial=-np.inf)
    return float(best + np.log(np.exp(scores - best).sum())) if np.isfinite(best) else -np.inf
