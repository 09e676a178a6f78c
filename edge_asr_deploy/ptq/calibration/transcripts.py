"""The float model's own transcripts, cached between exports: they cost most of calibration and depend on no recipe."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.files import write_atomically


class TokenCache:
    """Token ids of transcripts by the hash of their audio, for one model and prompt, in a file below `root`.

    `key` is everything but the audio that the tokens depend on: the weights' hash, language, task, versions. A file
    that cannot be read counts as empty. One that cannot be written is left out; clips are then transcribed again.
    """

    def __init__(self, root: Path | None, *key: str) -> None:
        name = hashlib.sha256("\n".join(key).encode()).hexdigest()[:32]
        self.path = None if root is None else root / "calibration" / f"{name}.json"
        self._tokens: dict[str, list[int]] = {}
        if self.path is not None:
            with suppress(OSError, ValueError):
                self._tokens = {str(k): [int(t) for t in v] for k, v in json.loads(self.path.read_text()).items()}

    def get(self, audio: NDArray[np.float32]) -> list[int] | None:
        """The transcript of this audio, or None."""
        return self._tokens.get(_print(audio))

    def put(self, audio: NDArray[np.float32], tokens: list[int]) -> None:
        """Add a transcript; `save` writes it to the file."""
        self._tokens[_print(audio)] = tokens

    def save(self) -> None:
        """Write the file, all at once."""
        if self.path is None:
            return
        with suppress(OSError):
            write_atomically(self.path, json.dumps(self._tokens))


def _print(audio: NDArray[np.float32]) -> str:
    return hashlib.sha256(audio.tobytes()).hexdigest()
