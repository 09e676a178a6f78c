"""How much calibration positions count in a recipe with RSQ: by the attention that they receive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edge_asr_deploy.families import Block, Structure
from edge_asr_deploy.ptq.calibration.stream import Stream
from edge_asr_deploy.ptq.methods import importance
from edge_asr_deploy.recipe.methods import RsqOptions


def block_weights(
    model: Any, block: Block, stream: Stream, real: list[Tensor], options: RsqOptions | None
) -> list[Tensor]:
    """Weights of the positions that enter a block, from its self-attention; `real` unchanged without options."""
    if options is None:
        return real
    attention = next(shared.closes for shared in block.inputs if shared.closes)
    received = stream.received(model.get_submodule(block.path), model.get_submodule(attention), real)
    return [importance(r, w, options) for r, w in zip(received, real, strict=True)]


def frame_weights(
    model: Any, structure: Structure, stream: Stream, real: Sequence[Tensor], options: RsqOptions
) -> list[Tensor]:
    """Weights of the encoder's output frames, from all cross-attentions together.

    `stream` has entered the decoder, and is consumed; `real` (frames,) is 1 for frames that are no padding.
    """
    received = [torch.zeros_like(weights) for weights in real]
    for block in structure.decoder:
        module = model.get_submodule(block.path)
        crossing = next(s.closes for s in block.inputs if s.closes and s.source in structure.cross.paths)
        parts = stream.received(module, model.get_submodule(crossing), stream.weights)
        for total, part in zip(received, parts, strict=True):
            total += part
        stream.pass_through(module)
    return [importance(r, w, options) for r, w in zip(received, real, strict=True)]
