"""Calibration activations on their way through a stack of transformer blocks, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from edge_asr_deploy.ptq.methods.rsq import attention_received
from edge_asr_deploy.ptq.statistics import Drift, Statistics


class _Reached(Exception):
    """Unwinds a forward pass once the wanted module's input is known."""


@dataclass(frozen=True)
class Pool:
    """Positions (positions, channels) that enter a block whose attentions' outputs are known, with their weights.

    Nothing else in a block mixes positions, so any of them can be sent through it together.
    """

    hidden: Tensor
    known: Mapping[nn.Module, Tensor]
    weights: Tensor
    arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def take(self, chosen: Tensor) -> Pool:
        """Some of the positions, by number."""
        known = {attention: outputs[chosen] for attention, outputs in self.known.items()}
        return Pool(self.hidden[chosen], known, self.weights[chosen], self.arguments)

    def outputs(self, block: nn.Module, parameters: Mapping[str, Tensor]) -> Tensor:
        """What leaves the block, (positions, channels), with these parameters in place of its own."""
        args, kwargs = self.arguments
        with ExitStack() as stack:
            for attention, outputs in self.known.items():
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
    _known: dict[nn.Module, list[Tensor]] = field(default_factory=dict)

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

    def copy(self) -> Stream:
        """The same activations, to be sent through other blocks."""
        return Stream(list(self.hidden), self.arguments, self.weights)

    def outputs(self, block: nn.Module) -> Iterator[Tensor]:
        """The block's output for each utterance, shape (1, positions, channels)."""
        for index in range(len(self.hidden)):
            output = self._run(block, index)
            yield output[0] if isinstance(output, tuple) else output

    def inputs(self, block: nn.Module, module: nn.Module) -> Iterator[Tensor]:
        """What reaches a module inside the block, for each utterance; nothing behind the module is computed."""
        for (values, *_), _ in self.calls(block, module):
            yield values

    def calls(self, block: nn.Module, module: nn.Module) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        """All that a module inside the block is called with, for each utterance."""
        for index in range(len(self.hidden)):
            yield _caught(module, partial(self._run, block, index))

    def pool(self) -> Pool:
        """The positions that count, of all utterances, with the known outputs of the block's attentions."""
        real = [weight > 0 for weight in self.weights]

        def pooled(values: Iterable[Tensor]) -> Tensor:
            return torch.cat([rows[0][chosen] for rows, chosen in zip(values, real, strict=True)])

        return Pool(
            pooled(self.hidden),
            {attention: pooled(outputs) for attention, outputs in self._known.items()},
            torch.cat([weight[chosen] for weight, chosen in zip(self.weights, real, strict=True)]),
            self.arguments[0],
        )

    def received(self, block: nn.Module, attention: nn.Module, queries: Sequence[Tensor]) -> list[Tensor]:
        """The attention that each position gets in an attention module of the block (RSQ), one per utterance.

        `queries[i]` (positions,) is 1 for those of the block's positions whose asking counts. Probabilities of one
        utterance at a time are held.
        """
        result = []
        for index, counted in enumerate(queries):
            args, kwargs = _caught(attention, partial(self._run, block, index))
            result.append(attention_received(attention, args, kwargs, counted))
        return result

    def replay(self, attention: nn.Module, outputs: list[Tensor]) -> None:
        """Until the stream advances, take these as the outputs of an attention module of the block, one per utterance.

        Attention over 1500 frames is most of an encoder block's cost, and each layer behind it would ask for it anew.
        """
        self._known[attention] = outputs

    def forget(self) -> None:
        """Compute attention again, as after a change of its layers."""
        self._known.clear()

    def advance(self, block: nn.Module) -> None:
        """Replace what enters this block by what leaves it."""
        for index, output in enumerate(self.outputs(block)):
            self.hidden[index] = output
        self.forget()

    def _run(self, block: nn.Module, index: int) -> Any:
        args, kwargs = self.arguments[index]
        with ExitStack() as stack:
            for module, outputs in self._known.items():
                stack.enter_context(answering(module, (outputs[index], None)))
            with torch.no_grad():
                return block(self.hidden[index], *args, **kwargs)


def statistics(inputs: Iterable[Tensor], weights: Iterable[Tensor], channels: int) -> Statistics:
    """Statistics of activations (1, positions, channels), one per utterance, with the weights of their positions."""
    result = Statistics(channels)
    for values, weight in zip(inputs, weights, strict=True):
        result.add(values[0].float(), weight)
    return result


def compare(
    inputs: Iterable[Tensor], originals: Iterable[Tensor], weights: Iterable[Tensor], channels: int
) -> tuple[Statistics, Tensor]:
    """Statistics as `statistics` gives them, and the drift (channels, channels) from the float model's `originals`."""
    result, drift = Statistics(channels), Drift(channels)
    for values, original, weight in zip(inputs, originals, weights, strict=True):
        result.add(values[0].float(), weight)
        drift.add(values[0].float(), original[0].float(), weight)
    return result, drift.matrix


@contextmanager
def answering(module: nn.Module, answer: object) -> Iterator[None]:
    """The module returns what is known already instead of computing it; of an attention that is a pair."""
    module.forward = lambda *args, **kwargs: answer
    try:
        yield
    finally:
        del module.forward


def _caught(module: nn.Module, run: Callable[[], object]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def catch(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append((args, dict(kwargs)))
        raise _Reached

    # Before the module's own hooks: they will see what was caught when the module is called with it.
    handle = module.register_forward_pre_hook(catch, with_kwargs=True, prepend=True)
    try:
        with torch.no_grad():
            run()
    except _Reached:
        return calls[0]
    finally:
        handle.remove()
    raise ValueError(f"{type(module).__name__} is never called")
