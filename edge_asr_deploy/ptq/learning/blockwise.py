"""Learned methods on a block: one attention after the other and the feed-forward part, on the stream's activations."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from edge_asr_deploy.families import Block, SharedInput
from edge_asr_deploy.ptq import folding
from edge_asr_deploy.ptq.calibration.stream import Pool, Stream, answering, collect_statistics
from edge_asr_deploy.ptq.learning.reconstruction import Learned, OutputError, Part, Site, output_error
from edge_asr_deploy.ptq.methods import learn, smoothquant
from edge_asr_deploy.recipe.methods import Learning, OmniQuantOptions, SmoothQuantOptions
from edge_asr_deploy.recipe.weights import WeightSpec

# Utterances, or positions, per optimizer step.
CLIPS, POSITIONS = 4, 512
KEYS_VALUES = ("k_proj", "v_proj")


def parts(block: Block) -> Iterator[tuple[SharedInput, ...]]:
    """The block's shared inputs, cut behind each attention; the layers between two cuts are learned together."""
    part: list[SharedInput] = []
    for shared in block.inputs:
        part.append(shared)
        if shared.closes:
            yield tuple(part)
            part = []
    if part:
        yield tuple(part)


def learn_part(
    model: Any,
    block: Block,
    shared_inputs: Sequence[SharedInput],
    stream: Stream,
    spec: WeightSpec,
    fixed: Sequence[str] = (),
) -> Learned:
    """Learn the rounding of these layers, and fold the scales and shifts that were learned with it.

    The part's inputs come from the stream, through the layers that are already rounded. Its target is the output of its
    own float layers on the same inputs. Attention mixes positions, so it is learned utterance by utterance. (Of padded
    frames only keys and values are computed: their queries change no other position.) Behind the attention positions
    are independent, so batches mix them. Layers in `fixed` are already rounded and take no scale.
    """
    options = spec.quantizer
    assert isinstance(options, Learning)
    module = model.get_submodule(block.path)
    sites = tuple(_site(model, module, shared, stream, spec, fixed) for shared in shared_inputs)
    closes = shared_inputs[-1].closes
    generator = torch.Generator().manual_seed(options.seed)
    if closes:
        names = {path.removeprefix(f"{closes}.") for shared in shared_inputs for path in shared.paths}
        path, attention = closes, model.get_submodule(closes)
        objective = _attention(module, attention, names, stream, options.positions, generator)
    else:
        path, objective = block.path, _feed_forward(module, stream.pool(), options.positions, generator)
    parameters = {
        f"{name}.{kind}": value.detach().clone()
        for site in sites
        for name in site.paths
        for kind, value in model.get_submodule(name).named_parameters()
    }
    learned = learn(Part(parameters, sites, _Renamed(objective, f"{path}.")), spec)
    for shared in shared_inputs:
        first = shared.paths[0]
        if first in learned.shifts:
            folding.shift(model, shared, learned.shifts[first])
    for shared in shared_inputs:
        if shared.paths[0] in learned.scales:
            folding.fold(model, shared, learned.scales[shared.paths[0]])
    return learned


class _Renamed:
    """An objective of a module, for parameters named from the model's root."""

    def __init__(self, objective: OutputError, prefix: str) -> None:
        self.objective, self.prefix, self.batches = objective, prefix, objective.batches

    def error(self, parameters: Mapping[str, Tensor], batch: int) -> Tensor:
        """The share of one batch."""
        own = {name.removeprefix(self.prefix): value for name, value in parameters.items()}
        return self.objective.error(own, batch)


def _site(
    model: Any, module: nn.Module, shared: SharedInput, stream: Stream, spec: WeightSpec, fixed: Sequence[str]
) -> Site:
    linear = model.get_submodule(shared.paths[0])
    statistics = collect_statistics(stream.inputs(module, linear), stream.weights, linear.in_features)
    if not (isinstance(spec.quantizer, OmniQuantOptions) and spec.quantizer.equivalent):
        return Site(shared.paths, statistics.hessian)
    scales = None
    if folding.is_foldable(model, shared) and shared.source not in fixed:
        stacked = torch.cat([model.get_submodule(path).weight.detach() for path in shared.paths])
        scales = smoothquant(stacked, statistics, SmoothQuantOptions())
        # A common factor of all scales changes nothing: the grids have scales themselves.
        scales = scales / scales.log().mean().exp()
    shifts = statistics.mean if folding.is_shiftable(model, shared) else None
    return Site(shared.paths, statistics.hessian, scales, shared.source, shifts)


def _attention(
    block: nn.Module,
    attention: nn.Module,
    learned: Collection[str],
    stream: Stream,
    positions: int,
    generator: torch.Generator,
) -> OutputError:
    """The objective of an attention module: its output at about that many positions, drawn from every utterance.

    Keys and values of cross-attention are computed once, as their layers are not among the `learned`.
    """
    share = math.ceil(positions / len(stream.hidden))
    own = _own(attention)
    calls, chosen, weights = [], [], []
    for (args, kwargs), weight in zip(stream.calls(block, attention), stream.weights, strict=True):
        real = weight.nonzero()[:, 0]
        taken = real[torch.randperm(len(real), generator=generator)[:share].sort().values]
        calls.append((args, kwargs))
        chosen.append(taken)
        weights.append(weight[taken])
    batches = [range(start, min(start + CLIPS, len(calls))) for start in range(0, len(calls), CLIPS)]
    prepared = [_queries(attention, *call, rows) for call, rows in zip(calls, chosen, strict=True)]
    constant = [module for name, module in attention.named_children() if name in KEYS_VALUES and name not in learned]
    constant_outputs = [[module(kwargs["key_value_states"]) for module in constant] for _, kwargs, _ in prepared]

    def run(parameters: Mapping[str, Tensor], batch: int) -> Tensor:
        outputs = []
        for index in batches[batch]:
            args, kwargs, rows = prepared[index]
            with ExitStack() as stack:
                for module, values in zip(constant, constant_outputs[index], strict=True):
                    stack.enter_context(answering(module, values))
                output, *_ = torch.func.functional_call(attention, {**own, **parameters}, args, kwargs)
            outputs.append(output[0] if rows is None else output[0][rows])
        return torch.cat(outputs)

    with torch.no_grad():
        targets = [run({}, batch) for batch in range(len(batches))]
    return output_error(run, targets, [torch.cat([weights[i] for i in batch]) for batch in batches])


def _queries(
    attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], rows: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any], Tensor | None]:
    """The call with the chosen queries only, which is exact where positions are neither masked nor rotated.

    Otherwise the whole call, and the rows of its output to take.
    """
    is_position_free = not getattr(attention, "is_causal", True) and all(
        kwargs.get(name) is None for name in ("attention_mask", "position_embeddings")
    )
    if not is_position_free or args or "hidden_states" not in kwargs:
        return args, kwargs, rows
    hidden, read = kwargs["hidden_states"], kwargs.get("key_value_states")
    read = hidden if read is None else read
    return (), {**kwargs, "hidden_states": hidden[:, rows], "key_value_states": read}, None


def _feed_forward(block: nn.Module, pool: Pool, positions: int, generator: torch.Generator) -> OutputError:
    """The objective of the layers behind a block's attentions: the block's output at positions from all utterances."""
    chosen = torch.randperm(len(pool.hidden), generator=generator)[:positions]
    batches = [pool.take(rows) for rows in torch.split(chosen, POSITIONS)]
    own = _own(block)

    def run(parameters: Mapping[str, Tensor], batch: int) -> Tensor:
        return batches[batch].outputs(block, {**own, **parameters})

    with torch.no_grad():
        targets = [run({}, batch) for batch in range(len(batches))]
    return output_error(run, targets, [batch.weights for batch in batches])


def _own(module: nn.Module) -> dict[str, Tensor]:
    """Copies of the module's parameters, without gradients."""
    return {name: value.detach().clone() for name, value in module.named_parameters()}
