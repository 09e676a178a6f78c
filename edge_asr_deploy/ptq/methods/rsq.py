"""RSQ (Sung et al., arXiv 2503.01820): calibration positions count by the attention that others pay them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from edge_asr_deploy.recipe.methods import RsqOptions


def importance(received: Tensor, real: Tensor, options: RsqOptions) -> Tensor:
    """Weights (positions,) of one utterance's positions, of mean 1 over the real ones and 0 elsewhere.

    `received` (positions,) is the attention that each gets, `real` (positions,) 1 for those that are no padding. Among
    these the paper's AttnCon: scaled from the least to the most so that it runs from `floor` to 1.
    """
    inside = received[real > 0]
    if not len(inside):
        return torch.zeros_like(real)
    low, high = inside.min(), inside.max()
    share = (inside - low) / (high - low) if high > low else torch.ones_like(inside)
    share = options.floor + (1 - options.floor) * share
    result = torch.zeros_like(real)
    result[real > 0] = share / share.mean()
    return result


def attention_received(attention: Any, args: tuple[Any, ...], kwargs: dict[str, Any], queries: Tensor) -> Tensor:
    """How much attention each position (keys,) gets in one call of an attention module of Transformers.

    The sum over heads and over the positions that ask and for which `queries` (queries,) is 1; one utterance without
    padding tokens, hence no mask but that of a decoder's self-attention, which sees no later position.
    """
    crosses = kwargs.get("key_value_states") is not None
    hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
    mask = None
    if attention.is_causal and not crosses:
        number = hidden.shape[1]
        mask = torch.full((1, 1, number, number), float("-inf"), dtype=hidden.dtype).triu_(1)
    with torch.no_grad(), _eager(attention.config):
        probabilities: Tensor = attention(*args, **{**kwargs, "attention_mask": mask})[1]
    return torch.einsum("hqk,q->k", probabilities[0], queries.to(probabilities.dtype))


@contextmanager
def _eager(config: Any) -> Iterator[None]:
    """Attention that returns its probabilities: the fused kernels never write them down."""
    chosen = config._attn_implementation
    config._attn_implementation = "eager"
    try:
        yield
    finally:
        config._attn_implementation = chosen
