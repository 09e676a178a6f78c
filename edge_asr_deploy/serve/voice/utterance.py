"""The sound of an utterance, as it comes: any rate, width and number of channels become 16 kHz, one channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.audio.containers.stored import Refused
from edge_asr_deploy.runtime.audio.decoding import HIGHEST_RATE, LOWEST_RATE, Samples, spelled
from edge_asr_deploy.runtime.audio.mixing import mix
from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE, SHORTEST_SECONDS
from edge_asr_deploy.runtime.audio.samples import MOST_CHANNELS, as_samples
from edge_asr_deploy.serve.faults import Fault, TooLarge
from edge_asr_deploy.serve.places import Held

WIDTHS = (1, 2, 3, 4)
BYTES = np.dtype(np.float32).itemsize


@dataclass(frozen=True)
class Format:
    """How sound comes: samples per second, bytes per sample, channels."""

    rate: int
    width: int
    channels: int

    @classmethod
    def of(cls, data: dict[str, Any]) -> Format:
        """The format that an event names. Fault for one that is no sound."""
        rate, width, channels = (data.get(name) for name in ("rate", "width", "channels"))
        whole = all(isinstance(value, int) for value in (rate, width, channels))
        if not whole or not LOWEST_RATE <= rate <= HIGHEST_RATE or width not in WIDTHS:  # type: ignore[operator]
            raise Fault(f"rate {rate}, width {width}: give {LOWEST_RATE} to {HIGHEST_RATE} Hz and 1 to 4 bytes")
        if not 1 <= channels <= MOST_CHANNELS:  # type: ignore[operator]
            raise Fault(f"channels {channels}: give 1 to {MOST_CHANNELS}")
        return cls(rate, width, channels)  # type: ignore[arg-type]


class Utterance:
    """Sound between the events that begin and end it."""

    def __init__(self, longest: float, held: Held) -> None:
        self._samples, self._longest, self._held = Samples(SAMPLE_RATE, longest), longest, held
        self._format: Format | None = None
        self._rest = b""
        self._resampler: soxr.ResampleStream | None = None

    def add(self, form: Format, sound: bytes) -> NDArray[np.float32]:
        """Take a chunk, and return its samples at 16 kHz: what a stream of partial texts is fed with.

        A chunk may end within a sample. The resampler gives some samples only with the next chunk, or at the end.
        """
        ended = np.zeros(0, np.float32)
        if form != self._format:
            ended = self._flushed()
            self._format, self._rest = form, b""
            if form.rate != SAMPLE_RATE:
                self._resampler = soxr.ResampleStream(form.rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        sound = self._rest + sound
        whole = len(sound) - len(sound) % (form.width * form.channels)
        self._rest = sound[whole:]
        mono = _mono(sound[:whole], form)
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(mono)
        return self._kept(np.concatenate([ended, mono]) if len(ended) else mono)

    def done(self) -> NDArray[np.float32]:
        """All samples, (n,): none where there is too little for a word."""
        self._kept(self._flushed())
        samples = self._samples.done()
        return samples if len(samples) >= SHORTEST_SECONDS * SAMPLE_RATE else samples[:0]

    def _flushed(self) -> NDArray[np.float32]:
        if self._resampler is None:
            return np.zeros(0, np.float32)
        rest = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        self._resampler = None
        return np.asarray(rest, np.float32)

    def _kept(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        self._held.take(BYTES * len(samples))
        try:
            self._samples.add(samples)
        except Refused:
            raise TooLarge(f"the utterance is longer than {spelled(self._longest)}; send it in parts") from None
        return samples


def _mono(sound: bytes, form: Format) -> NDArray[np.float32]:
    """Little-endian samples as float32, full scale 1; one byte is unsigned, as in WAV."""
    if form.width == 3:
        # Three bytes become the upper ones of four.
        wide = np.zeros((len(sound) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(sound, np.uint8).reshape(-1, 3)
        integers: NDArray[Any] = wide.view("<i4").ravel()
    else:
        integers = np.frombuffer(sound, {1: "u1", 2: "<i2", 4: "<i4"}[form.width])
    if not len(integers):
        return np.zeros(0, np.float32)
    try:
        samples = as_samples(integers)
    except UserError as error:
        raise Fault(str(error)) from None
    return mix(samples.reshape(-1, form.channels), form.rate)
