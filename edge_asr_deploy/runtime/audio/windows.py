"""Long audio in pieces that a model can take, cut where nobody speaks; and what is silence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE

# -70 dBFS: below the noise of any microphone, above the dither of a file that was made silent.
SILENT_PEAK = 10 ** (-70 / 20)
QUIET_SECONDS = 0.25
# The last window keeps at least this much: on a shorter rest models invent words.
REST_SECONDS = 1.0


def is_silent(samples: NDArray[np.float32]) -> bool:
    """True when no sample exceeds -70 dBFS: there is nothing to hear, and models would invent words."""
    return not len(samples) or bool(np.abs(samples).max() < SILENT_PEAK)


def cut(samples: NDArray[np.float32], seconds: int) -> list[NDArray[np.float32]]:
    """Windows of at most `seconds`, in order, which together are `samples` (16 kHz).

    Each cut is at the middle of the quietest 0.25 s in the last third of the window.
    """
    longest = seconds * SAMPLE_RATE
    windows = []
    while len(samples) > longest:
        last = min(longest, len(samples) - int(REST_SECONDS * SAMPLE_RATE))
        position = _quietest(samples, longest * 2 // 3, last)
        windows.append(samples[:position])
        samples = samples[position:]
    return [*windows, samples]


def batches(lengths: Sequence[int], size: int, first_alone: bool = False) -> list[list[int]]:
    """Indices of windows in groups of at most `size`, as even as possible, windows of similar length together.

    With `first_alone` the first window comes first and by itself: what is found there decides about the others.
    """
    alone = [[0]] if first_alone and lengths else []
    rest = sorted(range(len(alone), len(lengths)), key=lambda index: lengths[index])
    groups = np.array_split(np.array(rest, np.intp), max(1, -(-len(rest) // size)))
    return [*alone, *(group.tolist() for group in groups if len(group))]


def _quietest(samples: NDArray[np.float32], start: int, stop: int) -> int:
    """The middle of the frame of least energy within `start:stop`."""
    frame = int(QUIET_SECONDS * SAMPLE_RATE)
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples[start:stop], dtype=np.float64))])
    return start + int(np.argmin(energy[frame:] - energy[:-frame])) + frame // 2
