"""sherpa-onnx on Moonshine's files, and on its own int8 files of a Whisper, with its default padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sherpa_onnx

from benchmarks.rivals.windows import RATE, SECONDS, windowed
from benchmarks.worker import Heard, Job, Opened

# The engine drops what is beyond this in a clip of Whisper.
LONGEST = 29.0


def load(job: Job) -> Opened:
    """The vendor's two .ort files, or encoder and decoder as `from_whisper` takes them."""
    folder = Path(job.folder)
    is_whisper = (folder / "encoder.onnx").is_file()
    names = ("encoder.onnx", "decoder.onnx") if is_whisper else ("encoder_model.ort", "decoder_model_merged.ort")
    files = (folder / names[0], folder / names[1])
    options: dict[str, Any] = {"encoder": str(files[0]), "decoder": str(files[1]), "num_threads": job.threads}
    options["tokens"] = str(folder / "tokens.txt")
    if is_whisper:
        recognizer = sherpa_onnx.OfflineRecognizer.from_whisper(**options, language=job.language or "en")
    else:
        recognizer = sherpa_onnx.OfflineRecognizer.from_moonshine_v2(**options)

    def window(samples: Any) -> str:
        stream = recognizer.create_stream()
        stream.accept_waveform(RATE, samples)
        recognizer.decode_stream(stream)
        return str(stream.result.text)

    seconds = LONGEST if is_whisper else SECONDS
    return Opened(
        lambda samples: Heard(windowed(window, samples, seconds)), files, f"sherpa-onnx {sherpa_onnx.__version__}"
    )
