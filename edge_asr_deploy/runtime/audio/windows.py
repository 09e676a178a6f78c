"""Cuts long audio into windows that a model accepts, at quiet places, and detects silence."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
from edge_asr_deploy.runtime.audio.spans import Span, merged

# -70 dBFS: below the noise of any microphone, above the dither of a file that was made silent.
SILENT_PEAK = 10 ** (-70 / 20)
QUIET_SECONDS = 0.25
# The last window has at least this length, because models invent words for shorter audio.
REST_SECONDS = 1.0
# What stays of a pause on both sides of speech, and the pause that parts windows, in seconds. Chosen on 40 minutes of
# joined speech (docs/log/performance.md); models leave out sentences where a window joins speakers.
AROUND, APART = 0.5, 1.5


@dataclass(frozen=True)
class Clip:
    """A window of samples (n,), made of pieces of a recording.

    `pieces` has two indices of each piece's first sample, in the order of time: in the clip and in the recording.
    """

    samples: NDArray[np.float32]
    pieces: tuple[tuple[int, int], ...]

    def time(self, seconds: float) -> float:
        """The time in the recording of a time in the clip, both in seconds."""
        # Rounded, so that the first sample of a piece does not fall to the piece before it.
        index = bisect_right(self.pieces, round(seconds * SAMPLE_RATE, 3), key=lambda piece: piece[0])
        inside, outside = self.pieces[max(0, index - 1)]
        return seconds + (outside - inside) / SAMPLE_RATE

    def moved(self, samples: int) -> Clip:
        """The same clip of a recording in which it lies so many samples later."""
        return Clip(self.samples, tuple((inside, outside + samples) for inside, outside in self.pieces))

    def after(self, sample: int) -> Clip:
        """The clip from one of its samples on."""
        index = max(0, bisect_right(self.pieces, sample, key=lambda piece: piece[0]) - 1)
        inside, outside = self.pieces[index]
        later = ((start - sample, position) for start, position in self.pieces[index + 1 :])
        return Clip(self.samples[sample:], ((0, outside + sample - inside), *later))


def is_silent(samples: NDArray[np.float32]) -> bool:
    """True when no sample reaches -70 dBFS. Such audio holds no speech, and models would invent words for it."""
    return not len(samples) or bool(np.abs(samples).max() < SILENT_PEAK)


def cut(samples: NDArray[np.float32], seconds: int) -> list[Clip]:
    """Cut samples (16 kHz) into windows of at most `seconds`, in order and without gaps.

    Each cut is in the middle of the quietest 0.25 s within the last third of the window.
    """
    longest = seconds * SAMPLE_RATE
    windows, start = [], 0
    while len(samples) > longest:
        last = min(longest, len(samples) - int(REST_SECONDS * SAMPLE_RATE))
        position = _quietest(samples, longest * 2 // 3, last)
        windows.append(Clip(samples[:position], ((0, start),)))
        samples, start = samples[position:], start + position
    return [*windows, Clip(samples, ((0, start),))]


def cut_speech(samples: NDArray[np.float32], seconds: int, spans: Sequence[Span], join: bool) -> list[Clip]:
    """Windows of at most `seconds` with the speech in samples (16 kHz), without longer pauses.

    Each stretch of speech keeps AROUND seconds on both sides. A new window begins where it would get too long, and
    after a pause of APART seconds; with `join` such pauses part nothing. A stretch longer than a window is cut as by
    `cut`.
    """
    around, longest = int(AROUND * SAMPLE_RATE), seconds * SAMPLE_RATE
    apart = len(samples) if join else int(APART * SAMPLE_RATE)
    windows: list[list[Clip]] = []
    last = -apart
    for span in merged(spans, 2 * around):
        start = max(0, span.start - around)
        for part in cut(samples[start : span.end + around], seconds):
            piece = Clip(part.samples, ((0, start + part.pieces[0][1]),))
            length = sum(len(clip.samples) for clip in windows[-1]) if windows else 0
            if not windows or span.start - last >= apart or length + len(piece.samples) > longest:
                windows.append([])
            windows[-1].append(piece)
            last = span.end
    return [_joined(pieces) for pieces in windows]


def _joined(pieces: Sequence[Clip]) -> Clip:
    """One window of several pieces."""
    starts = np.cumsum([0, *(len(piece.samples) for piece in pieces)])
    places = tuple((int(start), piece.pieces[0][1]) for start, piece in zip(starts, pieces, strict=False))
    return Clip(np.concatenate([piece.samples for piece in pieces]), places)


def batches(lengths: Sequence[int], size: int, first_alone: bool = False) -> list[list[int]]:
    """Group the indices of windows: at most `size` to a group, similar group sizes, windows of similar length together.

    With `first_alone` the first group is only the first window: the language detected there holds for all windows.
    """
    alone = [[0]] if first_alone and lengths else []
    rest = sorted(range(len(alone), len(lengths)), key=lambda index: lengths[index])
    groups = np.array_split(np.array(rest, np.intp), max(1, -(-len(rest) // size)))
    return [*alone, *(group.tolist() for group in groups if len(group))]


def _quietest(samples: NDArray[np.float32], start: int, stop: int) -> int:
    """The middle of the frame with the least energy within `start:stop`."""
    frame = int(QUIET_SECONDS * SAMPLE_RATE)
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples[start:stop], dtype=np.float64))])
    return start + int(np.argmin(energy[frame:] - energy[:-frame])) + frame // 2
