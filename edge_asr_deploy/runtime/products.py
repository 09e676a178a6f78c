"""Matrix products of NumPy that stay on the calling thread."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# NumPy's OpenBLAS starts threads above 4 x 65536 multiplications (`GEMM_MULTITHREAD_THRESHOLD`, interface/gemm.c): one
# for every core, whatever number of threads was asked for. They wait by spinning, so that beside other programs a
# voice command's features took 16 ms instead of 2.
LARGEST = 4 * 65536


def product(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """`left` (rows, inner) times `right` (inner, columns), in blocks of rows that OpenBLAS gives no threads."""
    rows = max(1, LARGEST // max(1, right.size))
    whole = len(left) // rows * rows
    blocks = left[:whole].reshape(-1, rows, left.shape[1]) @ right
    return np.concatenate([blocks.reshape(whole, right.shape[1]), left[whole:] @ right])
