"""faster-whisper on CTranslate2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ctranslate2
import faster_whisper
from faster_whisper import BatchedInferencePipeline, WhisperModel

from benchmarks.rivals.windows import RATE, SECONDS
from benchmarks.worker import Heard, Job, Opened

BATCH = 8


def load(job: Job) -> Opened:
    """`float32`, `int8`, or `int8 batched`: stretches of speech, eight at a time."""
    kind, *batched = job.configuration.split()
    model = WhisperModel(job.folder, device="cpu", compute_type=kind, cpu_threads=job.threads, num_workers=1)
    options = {
        "language": job.language or "en",
        "task": "transcribe",
        "beam_size": 1,
        "best_of": 1,
        "temperature": 0.0,
        "condition_on_previous_text": False,
        "no_speech_threshold": None,
        "log_prob_threshold": None,
        "compression_ratio_threshold": None,
    }
    pipeline: Any = BatchedInferencePipeline(model) if batched else model

    def transcribe(samples: Any) -> Heard:
        # Beyond a window the timestamps tell where the next one begins; without them it loses words.
        extra: dict[str, Any] = {"without_timestamps": len(samples) <= SECONDS * RATE, "vad_filter": False}
        if batched:
            extra = {"batch_size": BATCH, "vad_filter": True}
        segments, _ = pipeline.transcribe(samples, **options, **extra)
        return Heard("".join(segment.text for segment in segments))

    version = f"faster-whisper {faster_whisper.__version__}, CTranslate2 {ctranslate2.__version__}"
    return Opened(transcribe, (Path(job.folder) / "model.bin",), version, {"computed": model.model.compute_type})
