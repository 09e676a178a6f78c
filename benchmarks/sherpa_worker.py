"""Hears clips with sherpa-onnx's Whisper, where the engine lives: `python sherpa_worker.py JOB`, JSON in and out."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import sherpa_onnx

RATE = 16_000


def main() -> None:
    """`JOB` names a `folder`, `clips` (.npy files of samples at 16 kHz) and `options` of `from_whisper`."""
    job = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(job["folder"])
    started = time.perf_counter()
    recognizer = sherpa_onnx.OfflineRecognizer.from_whisper(
        encoder=str(folder / "encoder.onnx"),
        decoder=str(folder / "decoder.onnx"),
        tokens=str(folder / "tokens.txt"),
        **job["options"],
    )
    load = time.perf_counter() - started
    heard = []
    for number, path in enumerate([job["clips"][0], *job["clips"]]):
        samples = np.load(path)
        started, processor = time.perf_counter(), time.process_time()
        stream = recognizer.create_stream()
        stream.accept_waveform(RATE, samples)
        recognizer.decode_stream(stream)
        wall, processor = time.perf_counter() - started, time.process_time() - processor
        if number:  # The first one warms up.
            heard.append({"text": stream.result.text.strip(), "wall": wall, "cpu": processor})
    print(json.dumps({"version": sherpa_onnx.__version__, "load": load, "heard": heard}))


if __name__ == "__main__":
    main()
