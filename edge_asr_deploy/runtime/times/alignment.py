"""When each token was said, by the decoder's cross-attention: the method of openai/whisper's `timing.py`, in numpy.

Some heads look at the place in the audio where the next token is said. Their attention is normalized over the tokens,
averaged, smoothed by a median over frames, and the best monotonic path through it (dynamic time warping) gives each
token its first frame. (openai/whisper smooths before it averages: the same errors for as much time as there are heads.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.runtime.decoding.recording import Recorded

MEDIAN_WIDTH = 7
# Pairs of places whose exchange in this order brings the median of seven values to the middle (N. Devillard's
# `opt_med7`, Fast median search, 1998).
_EXCHANGES = (
    *((0, 5), (0, 3), (1, 6), (2, 4), (0, 1), (3, 5), (2, 6)),
    *((2, 3), (3, 6), (4, 5), (1, 4), (1, 3), (3, 4)),
)


def token_frames(recorded: Recorded, heads: Sequence[tuple[int, int]], frames: int, prompt: int) -> NDArray[np.intp]:
    """The frame at which each decoded token begins, and the end of the last one: (tokens + 1,).

    `frames` of the encoder's output are audio, and `prompt` tokens were fed before the first decoded one.
    """
    total: NDArray[np.float32] = np.zeros(1, np.float32)
    for layer, head in heads:
        keys = recorded.keys[layer][head, :, :frames]
        total = total + _normalized(recorded.queries[layer][head] @ keys)
    # The last token of the prompt looks for the first token of the text.
    return path_starts(-smooth(total[prompt - 1 :]))


def path_starts(cost: NDArray[np.float32]) -> NDArray[np.intp]:
    """The column at which the cheapest monotonic path from corner to corner of `cost` (rows, columns) enters each row.

    A step goes to the next column, the next row, or both. Within a row, the best sum up to a column is that of the best
    entry: with the row's running sums this is a running minimum, so that a row takes a few operations on arrays.
    """
    rows, columns = cost.shape
    sums = np.cumsum(cost, axis=1, dtype=np.float64)
    # Of a path that enters a row at a column: its sum there, less the row's own sum up to it; and the sum above.
    entries, above = np.empty((rows, columns)), np.empty((rows, columns))
    above[0] = np.where(np.arange(columns) == 0, 0, np.inf)
    for row in range(rows):
        entries[row] = above[row] + cost[row] - sums[row]
        if row + 1 < rows:
            best = sums[row] + np.minimum.accumulate(entries[row])
            above[row + 1] = np.minimum(best, np.concatenate([[np.inf], best[:-1]]))
    starts = np.zeros(rows, np.intp)
    column = columns - 1
    for row in range(rows - 1, 0, -1):
        starts[row] = column = int(np.argmin(entries[row, : column + 1]))
        # By the diagonal step, where that is where the sum above comes from.
        if column and not _stays(above, entries, sums, row, column):
            column -= 1
    return starts


def smooth(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The median of MEDIAN_WIDTH neighbours along the last axis, which is mirrored at its ends."""
    half = MEDIAN_WIDTH // 2
    length = values.shape[-1]
    if length <= half:
        return values
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(half, half)], mode="reflect")
    places = [padded[..., place : place + length] for place in range(MEDIAN_WIDTH)]
    for low, high in _EXCHANGES:
        places[low], places[high] = np.minimum(places[low], places[high]), np.maximum(places[low], places[high])
    return places[half]


def _stays(
    above: NDArray[np.float64], entries: NDArray[np.float64], sums: NDArray[np.float64], row: int, column: int
) -> bool:
    """Whether the path came down in its column, not by the diagonal."""
    straight = sums[row - 1, column] + entries[row - 1, : column + 1].min()
    return bool(straight <= above[row, column])


def _normalized(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Attention over frames (tokens, frames), less its mean over the tokens, in units of its deviation."""
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    deviation = weights.std(axis=0)
    return np.asarray((weights - weights.mean(axis=0)) / np.maximum(deviation, np.finfo(np.float32).tiny))
