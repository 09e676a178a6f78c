"""One recording and its reference text."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.runtime.audio.reading import read_audio

SAMPLE_RATE = 16_000


@dataclass(frozen=True)
class Utterance:
    """A clip: an audio file or, where a corpus decodes it itself, the samples (16 kHz mono float32).

    `span` (first sample, first sample after) takes a part of the recording: calibration cuts clips this way.
    `language` is a code or name (`es`, `Spanish`), where the corpus tells it.
    """

    id: str
    audio: str | Path | NDArray[np.float32]
    text: str | None
    source: str
    speaker: str | None = None
    seconds: float | None = None
    span: tuple[int, int] | None = None
    language: str | None = None

    def samples(self) -> NDArray[np.float32]:
        """The audio, shape (samples,), 16 kHz mono float32. UserError when the file is missing or is no audio."""
        recording = self._recording()
        return recording if self.span is None else recording[slice(*self.span)]

    def fingerprint(self) -> str:
        """sha256 of the whole recording's samples, whatever its file name and whatever part of it is taken."""
        return hashlib.sha256(self._recording().tobytes()).hexdigest()

    def cut(self, seconds: float) -> Utterance:
        """The utterance cut to at most its first `seconds`, without text: the reference belongs to the whole clip."""
        start, end = self.span or (0, None)
        stop = start + round(seconds * SAMPLE_RATE)
        span = (start, stop if end is None else min(stop, end))
        shorter = seconds if self.seconds is None else min(seconds, self.seconds)
        return replace(self, span=span, seconds=shorter, text=None)

    def _recording(self) -> NDArray[np.float32]:
        return read_audio(self.audio) if isinstance(self.audio, str | Path) else self.audio
