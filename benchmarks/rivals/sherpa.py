"""sherpa-onnx on Moonshine's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sherpa_onnx

from benchmarks.rivals.windows import RATE, windowed
from benchmarks.worker import Heard, Job, Opened


def load(job: Job) -> Opened:
    """The vendor's two .ort files."""
    folder = Path(job.folder)
    files = (folder / "encoder_model.ort", folder / "decoder_model_merged.ort")
    recognizer = sherpa_onnx.OfflineRecognizer.from_moonshine_v2(
        encoder=str(files[0]), decoder=str(files[1]), tokens=str(folder / "tokens.txt"), num_threads=job.threads
    )

    def window(samples: Any) -> str:
        stream = recognizer.create_stream()
        stream.accept_waveform(RATE, samples)
        recognizer.decode_stream(stream)
        return str(stream.result.text)

    return Opened(lambda samples: Heard(windowed(window, samples)), files, f"sherpa-onnx {sherpa_onnx.__version__}")
