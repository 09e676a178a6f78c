"""The encoder's self-attention with 8-bit operands, in PyTorch: what the exported graph computes, rounding included."""

from __future__ import annotations

import torch
from torch import Tensor

# Queries are rounded, and attended for, in so many blocks.
BLOCKS = 6
SIGNED_TOP, UNSIGNED_TOP = 127, 255
SMALLEST = 1e-20
