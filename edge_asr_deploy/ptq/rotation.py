"""Rotating a model: the residual stream of its encoder or decoder, and values inside attention heads, as identities.

With Q 1 = 1 (`methods.rotation`) and every LayerNorm's gain and bias moved into what reads it, the stream x may be x Q:
readers take Q^T back, writers add what they add times Q. Two explicit products remain, with Q where the stream begins
and, in the decoder, with Q^T before its last norm, so that neither the stem nor the tied table changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edge_asr_deploy.families import Block, Step, Structure
from edge_asr_deploy.ptq.methods.rotation import orthogonal, rotation
from edge_asr_deploy.quantized.stem import narrow
from edge_asr_deploy.recipe.document import Recipe

# The explicit product is a Linear of this name, a child of the module whose input it turns.
PRODUCT = "rotation"


def rotate(model: Any, structure: Structure, recipe: Recipe) -> None:
    """Rotate the parts of the model (in place) whose recipe says so, before anything of them is calibrated.

    The encoder's output, which the cross-attention's keys and values read, is rotated with the encoder. Matrices that
    the recipe stores in float16 hold float16 numbers afterwards, as do the explicit products.
    """
    if recipe.encoder.weights.rotation is None and recipe.decoder.weights.rotation is None:
        return
    with torch.no_grad():
        if (options := recipe.encoder.weights.rotation) is not None:
            readers = [*_readers(structure.encoder), structure.cross]
            _turn(model, structure.encoder, readers, None, options.seed, recipe.stem.float_bits)
            if options.heads:
                _turn_heads(model, structure.encoder, options.seed)
        if (options := recipe.decoder.weights.rotation) is not None:
            readers = _readers(structure.decoder)
            _turn(model, structure.decoder, readers, structure.decoder_norm, options.seed, recipe.stem.float_bits)
            if options.heads:
                _turn_heads(model, structure.decoder, options.seed)
        for path, component in structure.components().items():
            if component != "embedding" and recipe.component(component).bits == 16:
                _narrow(model.get_submodule(path), 16)


def _readers(blocks: Sequence[Block]) -> list[Step]:
    return [step for block in blocks for step in block.readers]


def _turn(
    model: Any, blocks: Sequence[Block], readers: Sequence[Step], last_norm: str | None, seed: int, bits: int
) -> None:
    """Rotate one residual stream: all of `readers` read it through norms; `last_norm` gets it as it was."""
    for step in readers:
        _fold_norm(model, step)
    first = model.get_submodule(readers[0].paths[0])
    turn = rotation(first.in_features, seed)
    for step in readers:
        for path in step.paths:
            weight = model.get_submodule(path).weight
            weight.copy_(weight.double() @ turn)
    for block in blocks:
        for path in block.writers:
            linear = model.get_submodule(path)
            linear.weight.copy_(turn.T @ linear.weight.double())
            if linear.bias is not None:
                linear.bias.copy_(linear.bias.double() @ turn)
    _multiply_input(model.get_submodule(blocks[0].path), turn, first.weight.dtype, bits)
    if last_norm is not None:
        _multiply_input(model.get_submodule(last_norm), turn.T, first.weight.dtype, bits)


def _fold_norm(model: Any, step: Step) -> None:
    """Move the gain and bias of the LayerNorm that a step reads into the step's layers."""
    norm = model.get_submodule(step.norm)
    for path in step.paths:
        linear = model.get_submodule(path)
        if norm.bias is not None and linear.bias is not None:
            linear.bias.add_((linear.weight.double() @ norm.bias.double()).to(linear.bias.dtype))
        elif norm.bias is not None and not path.endswith("k_proj"):
            # Keys go without: one vector added to all of them moves no softmax.
            raise ValueError(f"{path} has no bias that could take the one of {step.norm}")
        linear.weight.mul_(norm.weight)
    norm.weight.fill_(1)
    if norm.bias is not None:
        norm.bias.zero_()


def _turn_heads(model: Any, blocks: Sequence[Block], seed: int) -> None:
    """Rotate the values of every attention head (QuaRot's R2): rows of `v_proj`, columns of the output projection.

    Not where heads share their values (grouped queries).
    """
    for step in (step for block in blocks for step in block.steps if step.closes):
        assert step.source is not None and step.closes is not None
        value, output = model.get_submodule(step.source), model.get_submodule(step.paths[0])
        size = model.get_submodule(step.closes).head_dim
        if value.out_features != output.in_features:
            continue
        turn = torch.kron(torch.eye(value.out_features // size, dtype=torch.float64), orthogonal(size, seed))
        value.weight.copy_(turn.T @ value.weight.double())
        if value.bias is not None:
            value.bias.copy_(value.bias.double() @ turn)
        output.weight.copy_(output.weight.double() @ turn)


def _multiply_input(module: nn.Module, matrix: Tensor, dtype: torch.dtype, bits: int) -> None:
    """From now on the module's first argument x reaches it as x @ matrix; x itself stays what calibration streams."""
    product = nn.Linear(matrix.shape[0], matrix.shape[1], bias=False, dtype=dtype)
    product.weight.copy_(matrix.T)
    _narrow(product, bits)
    module.add_module(PRODUCT, product.eval())
    module.register_forward_pre_hook(_multiplied)


def _multiplied(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    product = module.get_submodule(PRODUCT)
    return (product(args[0]), *args[1:])


def _narrow(linear: nn.Linear, bits: int) -> None:
    if bits == 16:
        linear.weight.copy_(torch.from_numpy(narrow(linear.weight.detach().numpy(), bits)))
