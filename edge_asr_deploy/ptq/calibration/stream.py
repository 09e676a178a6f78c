"""Calibration activations on their way through a stack of transformer blocks, block by block."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from edge_asr_deploy.ptq.methods.rsq import attention_received
from edge_asr_deploy.ptq.statistics import Drift, Statistics

# Every third of Whisper's calibration clips keeps a window of 30 seconds, as long audio and other engines have it. With
# this mix the quantized model is 6 to 8 % nearer to float than with either kind of window alone, in both kinds.
WHOLE_WINDOWS = 3


class _Reached(Exception):
    """Ends a forward pass as soon as the wanted module's input has been caught."""


@dataclass(frozen=True)
class Pool:
    """Positions (positions, channels) that enter a block, with the outputs of its attentions and their weights.

    Nothing but attention mixes positions, so any selection of positions can be sent through the block together.
    """

    hidden: Tensor
    attention_outputs: Mapping[nn.Module, Tensor]
    weights: Tensor
    arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def take(self, chosen: Tensor) -> Pool:
        """Some of the positions, by number."""
        attention_outputs = {attention: outputs[chosen] for attention, outputs in self.attention_outputs.items()}
        return Pool(self.hidden[chosen], attention_outputs, self.weights[chosen], self.arguments)

    def outputs(self, block: nn.Module, parameters: Mapping[str, Tensor]) -> Tensor:
        """What leaves the block, (positions, channels), with these parameters in place of its own."""
        args, kwargs = self.arguments
        with ExitStack() as stack:
            for attention, outputs in self.attention_outputs.items():
                stack.enter_context(answering(attention, (outputs[None], None)))
            output = torch.func.functional_call(block, dict(parameters), (self.hidden[None], *args), kwargs)
        result: Tensor = (output[0] if isinstance(output, tuple) else output)[0]
        return result


@dataclass
class Stream:
    """What enters the next block, one entry per utterance.

    `hidden[i]` has shape (1, positions, channels), `arguments[i]` is whatever else the block is called with, and
    `weights[i]` (positions,) says how much each position counts in statistics: 0 for padding.
    """

    hidden: list[Tensor]
    arguments: list[tuple[tuple[Any, ...], dict[str, Any]]]
    weights: list[Tensor]
    _attention_outputs: dict[nn.Module, list[Tensor]] = field(default_factory=dict)

    @classmethod
    def enter(cls, block: nn.Module, runs: Sequence[Callable[[], object]], real: Sequence[int]) -> Stream:
        """Catch what the first block receives when each of `runs` (one per utterance) calls the model.

        Of each utterance's positions the first `real` ones count, the rest is padding.
        """
        stream = cls([], [], [])
        for run, number in zip(runs, real, strict=True):
            (hidden, *args), kwargs = _caught(block, run)
            stream.hidden.append(hidden)
            stream.arguments.append((tuple(args), kwargs))
            stream.weights.append((torch.arange(hidden.shape[1]) < number).float())
        return stream

    def shorten(self, behind: int, last: int, whole: int = WHOLE_WINDOWS) -> None:
        """Keep each utterance's positions that count, `behind` more, and the `last` ones: what short windows hold.

        Every `whole`-th utterance, from the first on, keeps its window.
        """
        for index, weights in enumerate(self.weights):
            if index % whole == 0:
                continue
            kept = min(int(weights.count_nonzero()) + behind, len(weights))
            rest = max(kept, len(weights) - last)
            hidden = self.hidden[index]
            self.hidden[index] = torch.cat([hidden[:, :kept], hidden[:, rest:]], dim=1)
            self.weights[index] = torch.cat([weights[:kept], weights[rest:]])

    def copy(self) -> Stream:
        """The same activations, to be sent through other blocks."""
        return Stream(list(self.hidden), self.arguments, self.weights)

    def outputs(self, block: nn.Module) -> Iterator[Tensor]:
        """The block's output for each utterance, shape (1, positions, channels)."""
        for index in range(len(self.hidden)):
            output = self._run(block, index)
            yield output[0] if isinstance(output, tuple) else output

    def inputs(self, block: nn.Module, module: nn.Module) -> Iterator[Tensor]:
        """The input of a module inside the block, for each utterance; nothing behind the module is computed."""
        for (values, *_), _ in self.calls(block, module):
            yield values

    def calls(self, block: nn.Module, module: nn.Module) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        """All arguments that a module inside the block is called with, for each utterance."""
        for index in range(len(self.hidden)):
            yield _caught(module, partial(self._run, block, index))

    def pool(self) -> Pool:
        """The positions of all utterances that count, with the replayed outputs of the block's attentions."""
        real = [weight > 0 for weight in self.weights]

        def pooled(values: Iterable[Tensor]) -> Tensor:
            return torch.cat([rows[0][chosen] for rows, chosen in zip(values, real, strict=True)])

        return Pool(
            pooled(self.hidden),
            {attention: pooled(outputs) for attention, outputs in self._attention_outputs.items()},
            torch.cat([weight[chosen] for weight, chosen in zip(self.weights, real, strict=True)]),
            self.arguments[0],
        )

    def received(self, block: nn.Module, attention: nn.Module, queries: Sequence[Tensor]) -> list[Tensor]:
        """The attention that each position gets in an attention module of the block (RSQ), one per utterance.

        `queries[i]` (positions,) is 1 for the positions whose queries count. Only one utterance's probabilities are in
        memory at a time.
        """
        result = []
        for index, counted in enumerate(queries):
            args, kwargs = _caught(attention, partial(self._run, block, index))
            result.append(attention_received(attention, args, kwargs, counted))
        return result

    def replay(self, attention: nn.Module, outputs: list[Tensor]) -> None:
        """Use these outputs of an attention module, one per utterance, until the stream passes through the block.

        Attention over 1500 frames is most of an encoder block's cost, and would be computed again for each later layer.
        """
        self._attention_outputs[attention] = outputs

    def forget(self) -> None:
        """Compute attention again from now on: its layers have changed."""
        self._attention_outputs.clear()

    def pass_through(self, block: nn.Module) -> None:
        """Replace the inputs of this block by its outputs."""
        for index, output in enumerate(self.outputs(block)):
            self.hidden[index] = output
        self.forget()

    def _run(self, block: nn.Module, index: int) -> Any:
        args, kwargs = self.arguments[index]
        with ExitStack() as stack:
            for module, outputs in self._attention_outputs.items():
                stack.enter_context(answering(module, (outputs[index], None)))
            with torch.no_grad():
                return block(self.hidden[index], *args, **kwargs)


def collect_statistics(inputs: Iterable[Tensor], weights: Iterable[Tensor], channels: int) -> Statistics:
    """Statistics of activations (1, positions, channels), one per utterance, with the weights of their positions."""
    result = Statistics(channels)
    for values, weight in zip(inputs, weights, strict=True):
        result.add(values[0].float(), weight)
    return result


def compare(
    inputs: Iterable[Tensor],
    originals: Iterable[Tensor],
    weights: Iterable[Tensor],
    channels: int,
    residual: Sequence[Tensor] = (),
) -> tuple[Statistics, Drift]:
    """Statistics as `collect_statistics` gives them, and the drift from the float model's `originals`.

    `residual`: how far the residual stream that the layers add to lies from the float model's, (1, positions, outputs)
    for each utterance; none where they add to no stream.
    """
    result, drift = Statistics(channels), Drift(channels, residual[0].shape[-1] if residual else 0)
    away = [rows[0].float() for rows in residual] if residual else itertools.repeat(None)
    for values, original, weight, lost in zip(inputs, originals, weights, away):  # noqa: B905  `repeat` has no end
        result.add(values[0].float(), weight)
        drift.add(values[0].float(), original[0].float(), weight, lost)
    return result, drift


@contextmanager
def answering(module: nn.Module, answer: object) -> Iterator[None]:
    """Within it the module returns `answer` instead of computing it; the answer of an attention is a pair."""
    with computing(module, lambda *args, **kwargs: answer):
        yield


@contextmanager
def computing(module: nn.Module, forward: Callable[..., object]) -> Iterator[None]:
    """Within it the module computes this function instead of its own."""
    module.forward = forward
    try:
        yield
    finally:
        del module.forward


def _caught(module: nn.Module, run: Callable[[], object]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def catch(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append((args, dict(kwargs)))
        raise _Reached

    # Before the module's own hooks: they see the caught input when the module is called with it.
    handle = module.register_forward_pre_hook(catch, with_kwargs=True, prepend=True)
    try:
        with torch.no_grad():
            run()
    except _Reached:
        return calls[0]
    finally:
        handle.remove()
    raise ValueError(f"{type(module).__name__} is never called")
