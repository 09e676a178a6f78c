"""Greedy decoding with a cached decoder: one file, with the inputs of Optimum's `decoder_model_merged.onnx`.

The first call for an utterance has an empty cache and `use_cache_branch` false. It also computes the cross-attention
keys and values. Later calls pass one token and the cache, which never leaves onnxruntime's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_asr_deploy.families.structure import QUERIES
from edge_asr_deploy.runtime.decoding.family import Rules
from edge_asr_deploy.runtime.decoding.recording import Recorded, Recorder

from_numpy = onnxruntime.OrtValue.ortvalue_from_numpy


class Decoder:
    """A decoder session. `start` begins one utterance or several utterances at once."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        inputs = session.get_inputs()
        self.session = session
        self.accepts = {value.name for value in inputs}
        # Heads and head dimension of the cached keys and values.
        self._past = {
            value.name: (value.shape[1], value.shape[3])
            for value in inputs
            if value.name.startswith("past_key_values.")
        }
        outputs = [value.name for value in session.get_outputs()]
        self.present = [name for name in outputs if name.startswith("present.")]
        self.layers_with_queries = {int(name.removeprefix(QUERIES)) for name in outputs if name.startswith(QUERIES)}
        """The layers whose queries a call can hand out: none in bundles of earlier versions."""
        self.no, self.yes = from_numpy(np.array([False])), from_numpy(np.array([True]))

    def empty(self, rows: int) -> dict[str, onnxruntime.OrtValue]:
        """The cache before the first token: (rows, heads, 0, head dimension)."""
        return {
            name: from_numpy(np.zeros((rows, heads, 0, width), np.float32))
            for name, (heads, width) in self._past.items()
        }

    def start(self, context: Mapping[str, onnxruntime.OrtValue], layers: Sequence[int] = ()) -> Cache:
        """Begin new utterances. `context` has `encoder_hidden_states` (rows, frames, dimension) and masks.

        `layers` are those whose queries every call hands out.
        """
        return Cache(self, context, layers)


class Cache:
    """The state of the decoder in the middle of some utterances, one to a row.

    An input is bound only when it changes, because passing all inputs in each step (`run_with_ort_values`) costs some
    600,000 instructions in onnxruntime's Python layer. What changes in every step goes past that layer, which makes a
    device for every output: with six layers' keys and values that takes 40 us of a step.
    """

    def __init__(
        self, decoder: Decoder, context: Mapping[str, onnxruntime.OrtValue], layers: Sequence[int] = ()
    ) -> None:
        self._session = decoder.session
        self._binding = decoder.session.io_binding()
        self._native, self._device = native(self._binding)
        self._yes = decoder.yes
        self._accepts = decoder.accepts
        self.rows: int = context["encoder_hidden_states"].shape()[0]
        self._layers = tuple(layers)
        # The outputs that become inputs of the next call.
        self._carried = {name: name.replace("present", "past_key_values") for name in decoder.present}
        self.queries: dict[int, NDArray[np.float32]] = {}
        """Of the last call, by layer: (rows, heads, steps, head dimension), scaled."""
        self._bound: dict[str, onnxruntime.OrtValue] = {}
        for name, value in {**context, **decoder.empty(self.rows), "use_cache_branch": decoder.no}.items():
            self._bind(name, value)

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Feed tokens (rows, steps). Returns the next token's scores (rows, vocabulary), which callers may change."""
        self._bind("input_ids", from_numpy(tokens))
        binding, bound = self._native, self._bound
        binding.clear_binding_outputs()
        for name in ("logits", *self._carried, *(f"{QUERIES}{layer}" for layer in self._layers)):
            binding.bind_output(name, *self._device)
        self._session.run_with_iobinding(self._binding)
        outputs = binding.get_outputs()
        if self._layers:
            places = enumerate(self._layers, 1 + len(self._carried))
            self.queries = {layer: outputs[place].numpy() for place, layer in places}
        for place, name in enumerate(self._carried.values(), 1):
            # A value of its own, which outlives the next call's outputs; iterating over `outputs` would give others.
            bound[name] = outputs[place]
            binding.bind_ortvalue_input(name, bound[name])
        self._scores: NDArray[np.float32] = outputs[0].numpy()
        # The first call's cross-attention cache stays in use, because later calls of Optimum's graphs return a dummy.
        if bound.get("use_cache_branch") is not self._yes:
            self._bind("use_cache_branch", self._yes)
            self._carried = {name: past for name, past in self._carried.items() if ".decoder." in name}
        scores: NDArray[np.float32] = self._scores[:, -1]
        return scores

    def scores(self, position: int) -> NDArray[np.float32]:
        """What the last call said (rows, vocabulary) at one of the tokens that it was fed."""
        scores: NDArray[np.float32] = self._scores[:, position]
        return scores

    def keys(self, layer: int) -> NDArray[np.float32]:
        """The cross-attention's keys (rows, heads, head dimension, frames), which lie in memory like this."""
        keys: NDArray[np.float32] = self._bound[f"past_key_values.{layer}.encoder.key"].numpy()
        rows, heads, frames, width = keys.shape
        return keys.reshape(rows, heads, width, frames)

    def keep(self, rows: NDArray[np.intp]) -> None:
        """Drop all rows except these."""
        self.rows = len(rows)
        for name, value in self._bound.items():
            if name not in ("input_ids", "use_cache_branch"):
                self._bind(name, from_numpy(value.numpy()[rows]))

    def _bind(self, name: str, value: onnxruntime.OrtValue) -> None:
        if name in self._accepts:
            self._bound[name] = value
            self._binding.bind_ortvalue_input(name, value)


@dataclass(frozen=True)
class Decoded:
    """One decoded utterance. `tokens` are without prompt and end token.

    `capped` says that decoding ended at the token limit. `seconds` has one entry per decoder call; the time of a call
    for several rows is shared equally among the rows that still run. `ending` is the log-probability of the last token,
    which is the end token unless decoding was capped.
    """

    tokens: tuple[int, ...]
    capped: bool
    seconds: tuple[float, ...]
    ending: float
    recorded: Recorded | None = None


@dataclass(frozen=True)
class Steering:
    """What changes greedy decoding; nothing does by default.

    `restrict(row, its tokens, its scores)` may lower scores. `choose(scores)` (rows, vocabulary) takes one token for
    each row instead of the best. `recorder` writes down what happens. `check` is called before each step, and may
    raise what ends the decoding.
    """

    restrict: Callable[[int, Sequence[int], NDArray[np.float32]], None] | None = None
    choose: Callable[[NDArray[np.float32]], NDArray[np.intp]] | None = None
    recorder: Recorder | None = None
    check: Callable[[], None] | None = None


def native(binding: onnxruntime.IOBinding) -> tuple[Any, tuple[Any, ...]]:
    """onnxruntime's own object behind a binding, and what its `bind_output` takes beside the name.

    Both are private. Where a release has no such, the binding itself does the same, more slowly.
    """
    try:
        return binding._iobinding, (onnxruntime.OrtDevice.make("cpu", 0)._get_c_device(),)
    except AttributeError:
        return binding, ()


def greedy(
    cache: Cache,
    prompt: Sequence[int],
    rules: Rules,
    limits: Sequence[int],
    extended: Callable[[int, Sequence[int]], int] | None = None,
    loops: Callable[[Sequence[int]], bool] | None = None,
    steering: Steering = Steering(),
) -> list[Decoded]:
    """Take the best allowed token in each step, until an end token or the row's token limit.

    A row that reaches its limit may go on to `extended(row, its tokens)`, where that is more. A row ends there, too,
    once `loops(its tokens)`; without that a repetition ends only at the limit. Rows that have ended stay in the cache
    until they are half of it, because removing them copies all others.
    """
    tokens: list[list[int]] = [[] for _ in limits]
    seconds: list[list[float]] = [[] for _ in limits]
    # The log-probability of the last token, for each row that has ended.
    ended = dict[int, float]()
    # The rows that go on, and where each lies in the cache.
    running = [(row, row) for row in range(cache.rows)]
    feed = np.repeat(np.array([prompt], np.int64), cache.rows, axis=0)
    recorder, is_first = steering.recorder, True
    while running:
        if 2 * len(running) <= cache.rows:
            keep = np.array([place for _, place in running])
            cache.keep(keep)
            feed, running = feed[keep], [(row, place) for place, (row, _) in enumerate(running)]
        if steering.check is not None:
            steering.check()
        started = perf_counter()
        scores = cache.step(feed)
        if recorder is not None and is_first:
            recorder.begin(cache)
        if len(rules.never):
            scores[:, rules.never] = -np.inf
        if is_first:
            scores[:, rules.never_first] = -np.inf
        if steering.restrict is not None:
            for row, place in running:
                steering.restrict(row, tokens[row], scores[place])
        best = scores.argmax(axis=1) if steering.choose is None else steering.choose(scores)
        share = (perf_counter() - started) / len(running)
        for row, place in running:
            said, token = tokens[row], int(best[place])
            said.append(token)
            seconds[row].append(share)
            if recorder is not None:
                recorder.step(row, place, cache, scores[place], token, steering.choose is None)
            is_full = len(said) >= limits[row] and (extended is None or len(said) >= extended(row, said))
            if token in rules.end or is_full or (loops is not None and loops(said)):
                ended[row] = -float(np.log(np.exp(scores[place] - scores[place, token]).sum()))
        if ended:
            running = [pair for pair in running if pair[0] not in ended]
        feed, is_first = best[:, None], False
    recorded = [None if recorder is None else recorder.recorded(row) for row in range(len(limits))]
    return [
        _decoded(said, taken, ended[row], rules, recorded[row])
        for row, (said, taken) in enumerate(zip(tokens, seconds, strict=True))
    ]


def _decoded(
    tokens: Sequence[int], seconds: Sequence[float], ending: float, rules: Rules, recorded: Recorded | None
) -> Decoded:
    capped = tokens[-1] not in rules.end
    return Decoded(tuple(tokens if capped else tokens[:-1]), capped, tuple(seconds), ending, recorded)
