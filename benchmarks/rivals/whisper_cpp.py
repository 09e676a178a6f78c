"""whisper.cpp through pywhispercpp. `ac+500`: its audio context cut to the clip and 500 frames (10 s) more."""

from __future__ import annotations

import math
from importlib import metadata
from pathlib import Path
from typing import Any

from pywhispercpp.model import Model

from benchmarks.rivals.windows import RATE, SECONDS
from benchmarks.worker import Heard, Job, Opened

FRAMES_PER_SECOND, WHOLE = 50, 1500


def load(job: Job) -> Opened:
    """The ggml file of the folder. Clips beyond 30 s are cut by whisper.cpp."""
    file = Path(job.folder) / "model.bin"
    _, *cut = job.configuration.split()
    extra = int(cut[0].removeprefix("ac+")) if cut else None
    model = Model(
        str(file),
        redirect_whispercpp_logs_to=None,
        n_threads=job.threads,
        language=job.language or "en",
        no_context=True,
        print_progress=False,
        temperature_inc=0.0,
        no_speech_thold=1.0,
        greedy={"best_of": 1},
    )

    def transcribe(samples: Any) -> Heard:
        seconds = len(samples) / RATE
        frames = math.ceil(seconds * FRAMES_PER_SECOND) + (extra or 0)
        context = frames if extra and seconds <= SECONDS and frames < WHOLE else 0
        # Beyond a window the timestamps tell where the next one begins; without them it loses words.
        fits = seconds <= SECONDS
        segments = model.transcribe(samples, single_segment=fits, no_timestamps=fits, audio_ctx=context)
        return Heard(" ".join(segment.text for segment in segments))

    facts = {"system": Model.system_info()}
    return Opened(transcribe, (file,), f"pywhispercpp {metadata.version('pywhispercpp')}", facts)
