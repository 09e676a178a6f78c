"""Many channels become one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Channels that have nothing in common lose half of their power in their mean (of two; 1/n of n), and so does one that
# is alone. Where the mean has less than a tenth of that, the channels cancel each other: one of them is inverted.
CANCELLED = 0.1
# A channel that is nearly as loud as the loudest is as good: the first such one is taken, so that of two equal ones it
# is always the same.
NEARLY_AS_LOUD = 0.5


def mix(block: NDArray[np.float32], segment: int) -> NDArray[np.float32]:
    """The mean of channels (frames, channels): (frames,); the loudest channel in each `segment` where they cancel.

    Segments are counted from the beginning of the block; the last one may be shorter.
    """
    if block.shape[1] == 1:
        return block[:, 0]
    mono: NDArray[np.float32] = block.mean(axis=1)
    limit = CANCELLED / block.shape[1] ** 2
    for start in range(0, len(block), segment):
        part, mean = block[start : start + segment], mono[start : start + segment]
        flat = part.ravel()
        if np.dot(mean, mean) < limit * np.dot(flat, flat):
            power = np.einsum("ij,ij->j", part, part)
            mean[:] = part[:, np.argmax(power >= NEARLY_AS_LOUD * power.max())]
    return mono
