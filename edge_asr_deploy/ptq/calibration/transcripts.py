"""The float model's own transcripts, cached between exports: they cost most of calibration and depend on no recipe."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.cache import Values


class TokenCache:
    """Token ids by the audio that they transcribe and its language, for one model, in a file below `root`.

    `key` is everything else that decides about the tokens: the weights' hash, task, versions. The language is None
    where the model chooses it.
    """

    def __init__(self, root: Path | None, *key: str) -> None:
        self._values = Values(None if root is None else root / "calibration", *key)

    def get(self, audio: NDArray[np.float32], language: str | None = None) -> list[int] | None:
        """The tokens of this audio, or None; an entry that is no list of numbers counts as none."""
        tokens = self._values.get(_fingerprint(audio, language))
        is_sound = isinstance(tokens, list) and all(isinstance(token, int) for token in tokens)
        return tokens if is_sound else None

    def put(self, audio: NDArray[np.float32], tokens: list[int], language: str | None = None) -> None:
        """Remember the tokens; `save` writes them down."""
        self._values.put(_fingerprint(audio, language), tokens)

    def save(self) -> None:
        """Write the file, all at once."""
        self._values.save()


def _fingerprint(audio: NDArray[np.float32], language: str | None) -> str:
    found = hashlib.sha256(audio.tobytes()).hexdigest()
    return found if language is None else f"{found} {language}"
