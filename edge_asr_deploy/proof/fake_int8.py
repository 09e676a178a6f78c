"""The encoder's self-attention with 8-bit operands, in PyTorch: what the exported graph computes, rounding included.

Queries are rounded to uint8 block by block, keys and values to int8, each on its own extremes. The outputs of softmax
are rounded to uint8 with one scale per row, its largest value / 255: with one scale for all, rows that attend to many
frames alike would become zeros. Values are rounded without their mean over the frames, which is added to every output:
this is exact, as the shares of a row sum to one, and most of the error of rounded shares is an error of this mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from edge_asr_deploy.ptq.activations import fake_activations, rounded
from edge_asr_deploy.ptq.stem import convolve
from edge_asr_deploy.quantized.inputs import SIGNED_TOP, SMALLEST, TOP, Dynamic, InputRounding
from edge_asr_deploy.quantized.model import QuantizedModel

# Transformers looks up attention functions by name in a public table.
NAME = "edge_asr_int8"


@contextmanager
def fake_int8(model: Any, quantized: QuantizedModel) -> Iterator[None]:
    """Within it layers, convolutions and the encoder's attention round their inputs as the quantized model says."""
    with ExitStack() as stack:
        stack.enter_context(fake_activations(model, quantized.weights))
        for path, rounding in quantized.convolutions.items():
            hook = model.get_submodule(path).register_forward_hook(partial(_convolved, rounding=rounding))
            stack.callback(hook.remove)
        if quantized.attention is not None:
            stack.enter_context(_fake_attention(model.get_encoder(), quantized.attention.blocks))
        yield


def _convolved(module: nn.Conv1d, inputs: tuple[Tensor], _: Tensor, rounding: InputRounding) -> Tensor:
    product = convolve(inputs[0], module, rounding)
    return product if module.bias is None else product + module.bias.detach()[:, None]


def attend(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, blocks: int, mask: Tensor | None = None
) -> Tensor:
    """softmax(q k^T scaling + mask) v with rounded operands, all (batch, heads, frames, head_dim), float32.

    The queries are rounded in so many `blocks`.
    """
    mean = value.mean(2, keepdim=True)
    key, value = _signed(key), _signed(value - mean)
    outputs = []
    for block in torch.split(query, block_sizes(query.shape[2], blocks), dim=2):  # type: ignore[no-untyped-call]
        scores = rounded(block, Dynamic()) @ key.transpose(2, 3) * scaling
        shares = (scores if mask is None else scores + mask).softmax(-1)
        steps = shares.amax(-1, keepdim=True) / TOP
        outputs.append((shares / steps).round() @ value * steps)
    return torch.cat(outputs, dim=2) + mean


def block_sizes(frames: int, blocks: int) -> list[int]:
    """Sizes of the blocks that `frames` queries are split into: all alike but the last, which takes the rest."""
    size = frames // blocks
    if not size:
        return [frames]
    return [size] * (blocks - 1) + [frames - size * (blocks - 1)]


def _signed(values: Tensor) -> Tensor:
    scale = values.abs().max().clamp(min=SMALLEST) / SIGNED_TOP
    return (values / scale).round() * scale


@contextmanager
def _fake_attention(encoder: nn.Module, blocks: int) -> Iterator[None]:
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, partial(_interface, blocks=blocks))
    modules: list[Any] = [layer.self_attn for layer in encoder.get_submodule("layers").children()]
    configs = [module.config for module in modules]
    for module, config in zip(modules, configs, strict=True):
        module.config = copy(config)
        module.config._attn_implementation = NAME
    try:
        yield
    finally:
        for module, config in zip(modules, configs, strict=True):
            module.config = config


def _interface(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    blocks: int,
    **_: Any,
) -> tuple[Tensor, None]:
    return attend(query, key, value, scaling, blocks, attention_mask).transpose(1, 2).contiguous(), None
