"""Memory of an export: floats of a matrix are kept from when it is calibrated until its block is done.

Before, Transformers has mapped them from the checkpoint's file, and what nobody has written can be read from there
again. Afterwards the codes are enough: a layer makes its floats when it computes.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edge_asr_deploy.quantized.weight import QuantizedWeight

# Linux tells here which memory is mapped from which file.
MAPS = Path("/proc/self/smaps")
# Of madvise: the pages leave memory; a private mapping of a file then shows the file again.
DONTNEED = 4


class CodedLinear(nn.Linear):
    """A Linear layer whose matrix is dequantized whenever it is read."""

    coded: QuantizedWeight

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The matrix (out, in), float32."""
        return torch.from_numpy(self.coded.dequantize())


class CodedEmbedding(nn.Embedding):
    """An embedding whose table is dequantized whenever it is read."""

    coded: QuantizedWeight

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The table (rows, channels), float32."""
        return torch.from_numpy(self.coded.dequantize())


def hold_codes(module: Any, weight: QuantizedWeight) -> None:
    """Let a Linear or an embedding compute from its codes from now on, and give back the memory of its floats."""
    floats = module.weight.data
    del module._parameters["weight"]
    module.coded = weight
    module.__class__ = CodedEmbedding if isinstance(module, nn.Embedding) else CodedLinear
    _give_back([floats], only_unchanged=False)


def forget_unchanged(model: nn.Module) -> None:
    """Give back the memory of the weights that are mapped from files in which nothing was written; they are read again
    when they are needed."""
    _give_back(model.parameters(), only_unchanged=True)


def _give_back(tensors: Iterable[Tensor], only_unchanged: bool) -> None:
    """Drop the whole pages of tensors that lie in private mappings of files; all others keep theirs."""
    mapped = _mapped(only_unchanged)
    for tensor in tensors:
        start, size = tensor.data_ptr(), tensor.numel() * tensor.element_size()
        if any(first <= start and start + size <= last for first, last in mapped):
            first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
            length = (start + size) // mmap.PAGESIZE * mmap.PAGESIZE - first
            if length > 0:
                ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(length), DONTNEED)


def _mapped(only_unchanged: bool) -> list[tuple[int, int]]:
    """Addresses of private mappings of files; with `only_unchanged` of those that hold the file's bytes alone."""
    try:
        lines = MAPS.read_text(errors="replace").splitlines()
    except OSError:
        return []
    found: list[tuple[int, int]] = []
    for line in lines:
        words = line.split()
        if not words[0].endswith(":"):
            first, last = (int(word, 16) for word in words[0].split("-"))
            is_file = len(words) > 5 and words[5].startswith("/") and words[1].endswith("p")
            if is_file:
                found.append((first, last))
        elif is_file and only_unchanged and words[0] == "Anonymous:" and words[1] != "0":
            found.pop()
    return found
