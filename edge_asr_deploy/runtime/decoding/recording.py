"""What is written down while a decoder runs, where times or confidence are asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# Scores so far below the best are left out of a sum of probabilities: together at most 0.6 % of it (51,866 tokens).
FAR = 16.0


@dataclass(frozen=True)
class Wanted:
    """What to write down: the attention of these `layers`, and the probability of the token `no_speech`, if any."""

    layers: tuple[int, ...] = ()
    no_speech: int | None = None


class Watched(Protocol):
    """The state of a decoder, as `decoder.Cache` has it."""

    @property
    def queries(self) -> Mapping[int, NDArray[np.float32]]:
        """Of the last call."""

    def scores(self, position: int) -> NDArray[np.float32]:
        """Of the last call, at one of its tokens."""

    def keys(self, layer: int) -> NDArray[np.float32]:
        """Of the cross-attention."""


@dataclass(frozen=True)
class Recorded:
    """What was written down for one row.

    `log_probabilities` has one entry for each decoded token, the end included, under the rules of decoding. `queries`
    (heads, positions, head_dim) by layer, one for every token that was fed (the prompt, then all but the last token);
    they are scaled. `keys` (heads, head_dim, frames) by layer.
    """

    log_probabilities: tuple[float, ...]
    no_speech: float | None
    queries: Mapping[int, NDArray[np.float32]]
    keys: Mapping[int, NDArray[np.float32]]


class Recorder:
    """Writes down what is `wanted` of the rows of one run of decoding; a text begins at place `start` of the prompt."""

    def __init__(self, wanted: Wanted, start: int) -> None:
        self.wanted, self._start = wanted, start
        self._probabilities: dict[int, list[float]] = {}
        self._no_speech: dict[int, float] = {}
        self._queries: dict[int, dict[int, list[NDArray[np.float32]]]] = {}
        self._keys: dict[int, NDArray[np.float32]] = {}

    def begin(self, cache: Watched) -> None:
        """After the first call, before any score is changed."""
        if self.wanted.no_speech is not None:
            for row, scores in enumerate(cache.scores(self._start)):
                self._no_speech[row] = float(np.exp(log_probability(scores, self.wanted.no_speech)))
        self._keys = {layer: cache.keys(layer) for layer in self.wanted.layers}

    def step(
        self, row: int, index: int, cache: Watched, scores: NDArray[np.float32], token: int, is_best: bool
    ) -> None:
        """After a call: `row` lies at `index` of the cache and takes `token` by these scores (vocabulary,).

        `is_best` says that no other token has a higher score.
        """
        self._probabilities.setdefault(row, []).append(log_probability(scores, token, is_best))
        for layer in self.wanted.layers:
            self._queries.setdefault(row, {}).setdefault(layer, []).append(cache.queries[layer][index])

    def recorded(self, row: int) -> Recorded:
        """All that was written down for a row."""
        queries = {layer: np.concatenate(steps, axis=1) for layer, steps in self._queries.get(row, {}).items()}
        keys = {layer: values[row] for layer, values in self._keys.items()}
        return Recorded(tuple(self._probabilities.get(row, ())), self._no_speech.get(row), queries, keys)


def log_probability(scores: NDArray[np.float32], token: int, is_best: bool = False) -> float:
    """The logarithm of a token's share of the probability, to 0.006; `scores` (vocabulary,)."""
    # Mostly the token is the best, and a search for a better one costs as much as the rest.
    score = float(scores[token])
    best = score if is_best else float(scores.max())
    near = scores.take((scores > best - FAR).nonzero()[0])
    return score - best - math.log(float(np.exp(near - best).sum()))


def mean(values: Sequence[float]) -> float:
    """The mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0
