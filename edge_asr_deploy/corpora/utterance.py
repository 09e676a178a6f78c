"""One recording and what was said in it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.runtime.audio import read_audio

SAMPLE_RATE = 16_000


@dataclass(frozen=True)
class Utterance:
    """A clip: an audio file or, where a corpus cuts or decodes it itself, the samples (16 kHz mono float32)."""

    id: str
    audio: Path | NDArray[np.float32]
    text: str | None
    source: str
    speaker: str | None = None
    seconds: float | None = None

    def samples(self) -> NDArray[np.float32]:
        """The audio, shape (samples,), 16 kHz mono float32. UserError when the file is missing or is no audio."""
        return read_audio(self.audio) if isinstance(self.audio, Path) else self.audio

    def fingerprint(self) -> str:
        """sha256 of the audio as read: equal for the same recording whatever the file is called."""
        return hashlib.sha256(self.samples().tobytes()).hexdigest()
