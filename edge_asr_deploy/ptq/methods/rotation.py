"""Rotations that LayerNorm does not notice: orthogonal matrices that keep the vector of ones (SliceGPT and QuaRot for
RMSNorm, arXiv 2401.15024 and 2404.00456, made to fit a norm that subtracts the mean)."""

from __future__ import annotations

import torch
from torch import Tensor


def rotation(channels: int, seed: int) -> Tensor:
    """A random orthogonal Q (channels, channels), float64, with Q 1 = 1, so that LN(x Q) = LN(x) Q without gain and
    bias: neither the mean of x nor its distance from the mean changes.

    Q = U diag(1, R) U^T, where U is the Householder reflection whose first column is 1 / sqrt(channels) and R is drawn
    uniformly from all rotations of the channels - 1 dimensions that are left. (383 or 287 of them take no Hadamard
    matrix; the product with Q is a stored matrix in any case.)
    """
    axis = torch.full((channels,), -(channels**-0.5), dtype=torch.float64)
    axis[0] += 1
    axis /= axis.norm()
    reflection = torch.eye(channels, dtype=torch.float64) - 2 * torch.outer(axis, axis)
    inner = torch.eye(channels, dtype=torch.float64)
    inner[1:, 1:] = orthogonal(channels - 1, seed)
    return reflection @ inner @ reflection


def orthogonal(size: int, seed: int) -> Tensor:
    """An orthogonal matrix (size, size), float64, drawn uniformly (Mezzadri, math-ph/0609050)."""
    generator = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator))
    signed: Tensor = (q * r.diagonal().sign()).contiguous()
    return signed
