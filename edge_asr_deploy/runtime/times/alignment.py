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
from edge_asr_deploy.runtime.products import product

MEDIAN_WIDTH = 7
# Pairs of places whose exchange in this order brings the median of seven values to the middle (N. Devillard's
# `opt_med7`, Fast median search, 1998). After some only the greater or only the lesser value is needed.
_EXCHANGES = (
    *((0, 5, "both"), (0, 3, "both"), (1, 6, "both"), (2, 4, "both"), (0, 1, "greater"), (3, 5, "both")),
    *((2, 6, "both"), (2, 3, "greater"), (3, 6, "lesser"), (4, 5, "lesser"), (1, 4, "both"), (1, 3, "greater")),
    (3, 4, "lesser"),
)


def token_frames(recorded: Recorded, heads: Sequence[tuple[int, int]], frames: int, prompt: int) -> NDArray[np.intp]:
    """The frame at which each decoded token begins, and the end of the last one: (tokens + 1,).

    `frames` of the encoder's output are audio, and `prompt` tokens were fed before the first decoded one.
    """
    total: NDArray[np.float32] = np.zeros(1, np.float32)
    for layer, head in heads:
        keys = recorded.keys[layer][head, :, :frames]
        attention = _normalized(product(recorded.queries[layer][head], keys))
        total = np.add(total, attention, out=attention)
    # The last token of the prompt looks for the first token of the text.
    return path_starts(-smooth(total[prompt - 1 :]))


def path_starts(cost: NDArray[np.float32]) -> NDArray[np.intp]:
    """The column at which the cheapest monotonic path from corner to corner of `cost` (rows, columns) enters each row.

    A step goes to the next column, the next row, or both. Within a row, the best sum up to a column is that of the best
    entry: with the row's running sums this is a running minimum, so that a row takes a few operations on arrays.
    """
    rows, columns = cost.shape
    sums = np.cumsum(cost, axis=1, dtype=np.float64)
    rest = cost - sums
    # Of a path that enters a row at a column: its sum there, less the row's own sum up to it. The least of these so far
    # with that sum is the best path to a column, of which the next row takes the one above or the one beside that.
    entries, best, above = np.empty((rows, columns)), np.empty((rows, columns)), np.full(columns, np.inf)
    above[0] = 0
    for row in range(rows):
        np.add(above, rest[row], out=entries[row])
        np.minimum.accumulate(entries[row], out=best[row])
        best[row] += sums[row]
        above[0] = best[row, 0]
        np.minimum(best[row, 1:], best[row, :-1], out=above[1:])
    starts = np.zeros(rows, np.intp)
    column = columns - 1
    for row in range(rows - 1, 0, -1):
        starts[row] = column = int(entries[row, : column + 1].argmin())
        # By the diagonal step, where that is better than straight down.
        if column and best[row - 1, column - 1] < best[row - 1, column]:
            column -= 1
    return starts


def smooth(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The median of MEDIAN_WIDTH neighbours along the last axis, which is mirrored at its ends."""
    half = MEDIAN_WIDTH // 2
    length = values.shape[-1]
    if length <= half:
        return values
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(half, half)], mode="reflect")
    places = [padded[..., place : place + length].copy() for place in range(MEDIAN_WIDTH)]
    spare = np.empty_like(places[0])
    for low, high, needed in _EXCHANGES:
        first, second = places[low], places[high]
        if needed == "both":
            np.minimum(first, second, out=spare)
            np.maximum(first, second, out=second)
            places[low], spare = spare, first
        elif needed == "greater":
            np.maximum(first, second, out=second)
        else:
            np.minimum(first, second, out=first)
    return places[half]


def _normalized(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Attention over frames (tokens, frames), less its mean over the tokens, in units of its deviation."""
    weights = scores - scores.max(axis=1, keepdims=True)
    np.exp(weights, out=weights)
    weights /= weights.sum(axis=1, keepdims=True)
    weights -= weights.mean(axis=0)
    deviation = np.sqrt(np.einsum("ij,ij->j", weights, weights) / np.float32(len(weights)))
    weights /= np.maximum(deviation, np.finfo(np.float32).tiny)
    return np.asarray(weights)
