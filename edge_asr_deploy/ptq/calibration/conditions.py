"""Hard conditions for calibration speech: voices and noise behind it, a room around it, a telephone's band.

Corpora are clean, boards are not. Statistics of clean speech alone leave channels that noise uses to chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.corpora.utterance import SAMPLE_RATE

Samples = NDArray[np.float32]

# In dB, least and greatest: speech over voices, speech over noise, and how much louder the whole becomes.
OVER_VOICES, OVER_NOISE, LOUDER = (3.0, 20.0), (5.0, 30.0), (-12.0, 6.0)
VOICES = 4
# Exponents of noise whose power falls as frequency**-exponent: 0 is white, 2 is brown.
COLOURS = (0.0, 2.0)
# Seconds in which a room's reflections fall to 1 / e, how long they are followed, and how much louder the direct sound
# is than the first of them.
FADING, FOLLOWED, DIRECT = (0.03, 0.15), 0.4, (2.0, 10.0)
# What a telephone passes, in Hz.
BAND = (250.0, 3600.0)
# So that silence can be divided by.
QUIET = 1e-9


def harder(clips: Sequence[Callable[[], Samples]], index: int, share: float, seed: int) -> Samples:
    """Clip number `index` as calibration hears it: that `share` of the clips, evenly spread, stands in a condition.

    `clips` read the samples, 16 kHz mono. The conditions take turns; their strengths are drawn from `seed` and the
    index, so that a clip always sounds the same. The length never changes. Clip 0 stays as it is, unless all are asked
    for.
    """
    samples = clips[index]()
    taken = int((index + 1) * share)
    if taken == int(index * share):
        return samples
    draw = np.random.default_rng([seed, index])
    match taken % 4:
        case 1:
            # Repeated or cut to the same length.
            others = draw.choice(len(clips), size=VOICES)
            voices = np.sum([np.resize(clips[other](), len(samples)) for other in others], axis=0)
            changed = _over(samples, voices, OVER_VOICES, draw)
        case 2:
            changed = _over(samples, _noise(len(samples), draw), OVER_NOISE, draw)
        case 3:
            changed = _in_room(samples, draw)
        case _:
            changed = _by_telephone(samples)
    changed = changed * _factor(draw.uniform(*LOUDER))
    hard: Samples = np.clip(changed, -1, 1).astype(np.float32)
    return hard


def _factor(decibels: float) -> float:
    """The factor of amplitudes."""
    return float(10 ** (decibels / 20))


def _power(samples: NDArray[np.floating]) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64))) + QUIET


def _over(
    samples: Samples, background: NDArray[np.floating], distance: tuple[float, float], draw: np.random.Generator
) -> NDArray[np.floating]:
    """The samples with this background, a drawn number of decibels below them."""
    level = np.sqrt(_power(samples) / _power(background)) * _factor(-draw.uniform(*distance))
    mixed: NDArray[np.floating] = samples + background * level
    return mixed


def _noise(length: int, draw: np.random.Generator) -> NDArray[np.floating]:
    spectrum = np.fft.rfft(draw.standard_normal(length))
    frequencies = np.arange(1, len(spectrum) + 1, dtype=np.float64)
    coloured: NDArray[np.floating] = np.fft.irfft(spectrum * frequencies ** (-draw.uniform(*COLOURS) / 2), length)
    return coloured


def _in_room(samples: Samples, draw: np.random.Generator) -> NDArray[np.floating]:
    """The samples and their reflections: noise that fades, behind the direct sound; as loud as they were."""
    times = np.arange(int(FOLLOWED * SAMPLE_RATE)) / SAMPLE_RATE
    response = draw.standard_normal(len(times)) * np.exp(-times / draw.uniform(*FADING))
    response[0] += draw.uniform(*DIRECT)
    # A power of two above both: other lengths are slow, shorter ones would wrap around.
    size = 1 << (len(samples) + len(response)).bit_length()
    heard: NDArray[np.floating] = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)[
        : len(samples)
    ]
    level: float = np.sqrt(_power(samples) / _power(heard))
    return heard * level


def _by_telephone(samples: Samples) -> NDArray[np.floating]:
    spectrum = np.fft.rfft(samples)
    frequencies = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    spectrum[(frequencies < BAND[0]) | (frequencies > BAND[1])] = 0
    passed: NDArray[np.floating] = np.fft.irfft(spectrum, len(samples))
    return passed
