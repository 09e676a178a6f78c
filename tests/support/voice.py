"""Sounds that voice activity detection takes for speech, made from a seed: vowels, four in a second."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
# Frequencies (Hz) of three formants, their widths and heights.
VOWELS = np.array([(700, 1200, 2600), (300, 2300, 3000), (400, 900, 2400), (500, 1800, 2500)])
WIDTHS, HEIGHTS = (90, 110, 150), (1.0, 0.6, 0.3)


def voice(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    """Samples (16_000 * seconds,) that a 16-bit file keeps exactly; no two seeds share them."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = 120 * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    syllable = (4 * time).astype(int)
    formants = VOWELS[generator.integers(0, len(VOWELS), len(time) // 4000 + 1)][syllable].T
    sound = np.zeros(len(time))
    for harmonic in range(1, 30):
        near = [((harmonic * pitch - formant) / width) ** 2 for formant, width in zip(formants, WIDTHS, strict=True)]
        sound += np.sin(harmonic * phase) * sum(h / (1 + one) for h, one in zip(HEIGHTS, near, strict=True))
    loud = np.sin(np.pi * ((4 * time) % 1)) ** 0.7 * sound / max(1.0, np.abs(sound).max(initial=0))
    codes = np.rint(8000 * loud + generator.integers(-30, 31, len(time))).astype(np.int16)  # no -0.0
    return (codes / 32768).astype(np.float32)
