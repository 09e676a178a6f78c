"""Greedy decoding with a cached decoder: one file, names and order of inputs as Optimum's `decoder_model_merged.onnx`.

The first call of an utterance has an empty cache and `use_cache_branch` false; it also computes the cross-attention
keys and values. Later calls bring one token and the cache, which never leaves onnxruntime's memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_asr_deploy.runtime.family import Rules

from_numpy = onnxruntime.OrtValue.ortvalue_from_numpy


class Decoder:
    """A decoder session. `start` begins an utterance."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        inputs = session.get_inputs()
        self.session = session
        self.accepts = {value.name for value in inputs}
        # (batch, heads, no tokens yet, head dimension)
        self.empty = {
            value.name: from_numpy(np.zeros((1, value.shape[1], 0, value.shape[3]), np.float32))
            for value in inputs
            if value.name.startswith("past_key_values.")
        }
        self.present = [value.name for value in session.get_outputs() if value.name.startswith("present.")]
        self.no, self.yes = from_numpy(np.array([False])), from_numpy(np.array([True]))

    def start(self, context: Mapping[str, onnxruntime.OrtValue]) -> Cache:
        """A new utterance; `context` has `encoder_hidden_states`, (1, frames, dimension), and what else it may need."""
        return Cache(self, context)


class Cache:
    """The decoder in the middle of one utterance."""

    def __init__(self, decoder: Decoder, context: Mapping[str, onnxruntime.OrtValue]) -> None:
        self._session = decoder.session
        self._yes = decoder.yes
        feeds = {**context, **decoder.empty, "use_cache_branch": decoder.no}
        self._feeds = {name: value for name, value in feeds.items() if name in decoder.accepts}
        self._present = decoder.present

    def step(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Feed tokens; the scores (vocabulary,) of the one that follows them, for the caller to change."""
        self._feeds["input_ids"] = from_numpy(np.array([tokens], np.int64))
        logits, *present = self._session.run_with_ort_values(["logits", *self._present], self._feeds)
        for name, value in zip(self._present, present, strict=True):
            self._feeds[name.replace("present", "past_key_values")] = value
        # The cross-attention part stays as the first call made it: in Optimum's graphs later calls return a dummy.
        if self._feeds.get("use_cache_branch") is not self._yes:
            self._feeds["use_cache_branch"] = self._yes
            self._present = [name for name in self._present if ".decoder." in name]
        scores: NDArray[np.float32] = logits.numpy()[0, -1]
        return scores


@dataclass(frozen=True)
class Decoded:
    """Tokens without prompt and end; `capped` when the limit ended it; the seconds of each decoder call."""

    tokens: tuple[int, ...]
    capped: bool
    seconds: tuple[float, ...]


def greedy(cache: Cache, prompt: Sequence[int], rules: Rules, limit: int) -> Decoded:
    """Take the best allowed token each time, until an end token or `limit` tokens. A loop runs into the limit."""
    tokens: list[int] = []
    seconds: list[float] = []
    feed = prompt
    while True:
        started = perf_counter()
        scores = cache.step(feed)
        scores[rules.never] = -np.inf
        if not tokens:
            scores[rules.never_first] = -np.inf
        token = int(scores.argmax())
        seconds.append(perf_counter() - started)
        if token in rules.end:
            return Decoded(tuple(tokens), False, tuple(seconds))
        tokens.append(token)
        if len(tokens) >= limit:
            return Decoded(tuple(tokens), True, tuple(seconds))
        feed = (token,)
