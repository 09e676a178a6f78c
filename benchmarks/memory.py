"""How fast this machine reads memory: the floor of a decoder step is its bytes at this speed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np

BYTES, TIMES = 1 << 28, 5


def bandwidth(threads: int) -> float:
    """Bytes per second that `threads` threads read together, out of 256 MiB; the best of five."""
    parts = np.array_split(np.ones(BYTES // 8, np.int64), threads)
    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(TIMES):
            started = perf_counter()
            list(pool.map(np.max, parts))
            seconds.append(perf_counter() - started)
    return BYTES / min(seconds)
