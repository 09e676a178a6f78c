"""Rotating a model: the residual stream of its encoder or decoder, and values inside attention heads, as identities.

With Q 1 = 1 (`methods.rotation`), and with every LayerNorm's gain and bias moved into the layers that read it, the
stream x can be replaced by x Q: layers that read it multiply by Q^T first, layers that add to it multiply their output
by Q. Two explicit products remain: with Q where the stream begins and, in the decoder, with Q^T before its last norm.
So neither the stem nor the tied table changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edge_asr_deploy.families import Block, SharedInput, Structure
from edge_asr_deploy.ptq.methods.rotation import orthogonal, rotation
from edge_asr_deploy.quantized.stem import narrow
from edge_asr_deploy.recipe.document import Recipe

# The explicit product is a Linear of this name, a child of the module whose input it rotates.
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
            _rotate_stream(model, structure.encoder, readers, None, options.seed, recipe.stem.float_bits)
            if options.heads:
                _rotate_heads(model, structure.encoder, options.seed)
        if (options := recipe.decoder.weights.rotation) is not None:
            readers = _readers(structure.decoder)
            _rotate_stream(
                model, structure.decoder, readers, structure.decoder_norm, options.seed, recipe.stem.float_bits
            )
            if options.heads:
                _rotate_heads(model, structure.decoder, options.seed)
        for path, component in structure.components().items():
            if component != "embedding" and recipe.component(component).bits == 16:
                _narrow(model.get_submodule(path), 16)


def _readers(blocks: Sequence[Block]) -> list[SharedInput]:
    return [shared for block in blocks for shared in block.readers]


def _rotate_stream(
    model: Any, blocks: Sequence[Block], readers: Sequence[SharedInput], last_norm: str | None, seed: int, bits: int
) -> None:
    """Rotate one residual stream, which `readers` read through norms. `last_norm` gets it rotated back."""
    for shared in readers:
        _fold_norm(model, shared)
    first = model.get_submodule(readers[0].paths[0])
    matrix = rotation(first.in_features, seed)
    for shared in readers:
        for path in shared.paths:
            weight = model.get_submodule(path).weight
            weight.copy_(weight.double() @ matrix)
    for block in blocks:
        for path in block.writers:
            linear = model.get_submodule(path)
            linear.weight.copy_(matrix.T @ linear.weight.double())
            if linear.bias is not None:
                linear.bias.copy_(linear.bias.double() @ matrix)
    _multiply_input(model.get_submodule(blocks[0].path), matrix, first.weight.dtype, bits)
    if last_norm is not None:
        _multiply_input(model.get_submodule(last_norm), matrix.T, first.weight.dtype, bits)


def _fold_norm(model: Any, shared: SharedInput) -> None:
    """Move the gain and bias of the LayerNorm in front of these layers into the layers."""
    norm = model.get_submodule(shared.norm)
    for path in shared.paths:
        linear = model.get_submodule(path)
        if norm.bias is not None and linear.bias is not None:
            linear.bias.add_((linear.weight.double() @ norm.bias.double()).to(linear.bias.dtype))
        elif norm.bias is not None and not path.endswith("k_proj"):
            # Keys need no bias: one vector added to all keys changes no softmax.
            raise ValueError(f"{path} has no bias that could take the one of {shared.norm}")
        linear.weight.mul_(norm.weight)
    norm.weight.fill_(1)
    if norm.bias is not None:
        norm.bias.zero_()


def _rotate_heads(model: Any, blocks: Sequence[Block], seed: int) -> None:
    """Rotate the values of every attention head (QuaRot's R2): rows of `v_proj`, columns of the output projection.

    Not where heads share their values (grouped queries).
    """
    outputs = [shared for block in blocks for shared in block.inputs if shared.closes]
    for shared in outputs:
        assert shared.source is not None and shared.closes is not None
        value, output = model.get_submodule(shared.source), model.get_submodule(shared.paths[0])
        size = model.get_submodule(shared.closes).head_dim
        if value.out_features != output.in_features:
            continue
        matrix = torch.kron(torch.eye(value.out_features // size, dtype=torch.float64), orthogonal(size, seed))
        value.weight.copy_(matrix.T @ value.weight.double())
        if value.bias is not None:
            value.bias.copy_(value.bias.double() @ matrix)
        output.weight.copy_(output.weight.double() @ matrix)


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
