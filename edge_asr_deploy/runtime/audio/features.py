"""Whisper's log-mel spectrogram in numpy, equal to Transformers' `WhisperFeatureExtractor`."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
from edge_asr_deploy.runtime.products import product

N_FFT = 400
HOP = 160
FLOOR = 1e-10
DYNAMIC_RANGE = 8.0
# Frames that are transformed at once. A block stays in the processor's cache, and 30 s take 1 MB instead of 12.
BLOCK = 256


class LogMel:
    """Turns samples into features, padded to `seconds` with silence. Frames of pure padding are not transformed."""

    def __init__(self, mel_bins: int = 80, seconds: int = 30) -> None:
        self.mel_bins, self.length = mel_bins, seconds * SAMPLE_RATE

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-mel of samples (n,) at 16 kHz, n at most `seconds`: float32 (1, mel_bins, 100 * seconds), about -1..1."""
        frames = self._frames(samples)
        log_mel = np.empty((self.mel_bins, len(frames)), np.float32)
        for start in range(0, len(frames), BLOCK):
            block = slice(start, start + BLOCK)
            log_mel[:, block] = np.log10(np.maximum(product(self._power(frames[block]), self._filters), FLOOR)).T
        lowest = max(log_mel.max() - DYNAMIC_RANGE, np.log10(FLOOR))
        # Frames beyond the samples are silent, so they have the lowest value.
        features = np.full((1, self.mel_bins, self.length // HOP), (lowest + 4) / 4, np.float32)
        features[0, :, : log_mel.shape[1]] = (np.maximum(log_mel, lowest) + 4) / 4
        return features

    def _frames(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Views of every frame that touches a sample: (frames, 400). Ends are mirrored, as in torch.stft."""
        half = N_FFT // 2
        padded = np.zeros(self.length + N_FFT, np.float32)
        padded[half : half + len(samples)] = samples
        padded[:half] = padded[N_FFT:half:-1]
        padded[-half:] = padded[-half - 2 : -N_FFT - 2 : -1]
        touched = min(self.length // HOP, -(-(len(samples) + half) // HOP))
        return sliding_window_view(padded, N_FFT)[: touched * HOP : HOP]

    def _power(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """The power spectra of frames: (frames, 201)."""
        spectrum = np.fft.rfft(frames * self._window)
        power: NDArray[np.float32] = (spectrum.real**2 + spectrum.imag**2).astype(np.float32, copy=False)
        return power

    @cached_property
    def _window(self) -> NDArray[np.float32]:
        """The periodic Hann window."""
        return np.hanning(N_FFT + 1)[:-1].astype(np.float32)

    @cached_property
    def _filters(self) -> NDArray[np.float32]:
        """Triangles of equal area, evenly spaced on Slaney's mel scale from 0 to 8 kHz: (201, mel_bins)."""
        corners = _from_mel(np.linspace(0.0, _to_mel(SAMPLE_RATE / 2), self.mel_bins + 2))
        frequencies = np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)[:, None]
        low, centre, high = corners[:-2], corners[1:-1], corners[2:]
        rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
        filters = np.maximum(0, np.minimum(rising, falling)) * (2 / (high - low))
        return filters.astype(np.float32)


# Slaney's Auditory Toolbox (1998): linear below 1 kHz at 3 mel per 200 Hz, then logarithmic, 27 mel per factor 6.4.
KNEE_HERTZ, KNEE_MEL = 1000.0, 15.0
MEL_PER_LOG = 27.0 / np.log(6.4)


def _to_mel(hertz: float) -> float:
    return float(KNEE_MEL + np.log(hertz / KNEE_HERTZ) * MEL_PER_LOG) if hertz > KNEE_HERTZ else 3 * hertz / 200


def _from_mel(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = KNEE_HERTZ * np.exp((np.maximum(mel, KNEE_MEL) - KNEE_MEL) / MEL_PER_LOG)
    return np.where(mel > KNEE_MEL, above, 200 * mel / 3)
