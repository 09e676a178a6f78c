"""Pauses in the audio, by its energy: words begin and end at their edges, not inside them.

Alignment gives every frame to some token, so that a pause becomes part of the word before or behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
from edge_asr_deploy.runtime.times.words import TimedWord

STEP = 0.01
# A pause is so long, in seconds, and so much quieter than speech (its loud part: 95 % of the frames are quieter); or
# near the background (5 % of the frames are quieter).
SHORTEST = 0.1
BELOW_SPEECH, ABOVE_BACKGROUND = 32.0, 6.0
# No word is made shorter than this.
LEAST_WORD = 0.04


def pauses(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Begin and end of every pause (pauses, 2), in seconds."""
    step = round(STEP * SAMPLE_RATE)
    frames = samples[: len(samples) // step * step].reshape(-1, step)
    if not len(frames):
        return np.zeros((0, 2))
    # Two neighbours smooth single glottal pulses of deep voices.
    power = np.convolve(np.einsum("ij,ij->i", frames, frames) / step, np.ones(3) / 3, "same")
    level = 10 * np.log10(power + 1e-10)
    ordered = np.sort(level)
    loud, background = _quantile(ordered, 0.95), _quantile(ordered, 0.05)
    quiet = level < max(loud - BELOW_SPEECH, min(background + ABOVE_BACKGROUND, loud - BELOW_SPEECH / 2))
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(np.int8)))
    runs: NDArray[np.float64] = edges.reshape(-1, 2).astype(np.float64) * STEP
    found: NDArray[np.float64] = runs[runs[:, 1] - runs[:, 0] >= SHORTEST - STEP / 2]
    return found


def outside_pauses(words: Sequence[TimedWord], quiet: NDArray[np.float64]) -> list[TimedWord]:
    """The words, without what they have of pauses at their begin and end.

    A word with a pause inside lies on the side where more of it is. What is before the pause may go to the last word.
    """
    result: list[TimedWord] = []
    found: list[list[float]] = quiet.tolist()
    for word in words:
        start, end = word.start, word.end
        for begin, stop in [one for one in found if one[1] > start and one[0] < end]:
            if begin - start < end - stop:
                if result and result[-1].end == word.start and begin > start:
                    result[-1] = replace(result[-1], end=begin)
                start = min(stop, end)
            else:
                end = max(begin, start)
                break
        if end - start < LEAST_WORD:
            start, end = word.start, word.end
        result.append(word if (start, end) == (word.start, word.end) else replace(word, start=start, end=end))
    return result


def _quantile(ordered: NDArray[np.float64], share: float) -> float:
    """As numpy's percentile, of values in order, in a fraction of its time."""
    place = share * (len(ordered) - 1)
    lower = int(place)
    upper = min(lower + 1, len(ordered) - 1)
    return float(ordered[lower] + (ordered[upper] - ordered[lower]) * (place - lower))
