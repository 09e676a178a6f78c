"""What sherpa-onnx's Whisper hears: `python sherpa_whisper.py JOB FEATURES`, run where the engine is installed.

`JOB` (JSON) has the `folder` of a layout, `options` of `from_whisper`, and `clips`: .npy files of samples at 16 kHz.
Prints a JSON object for each clip. `FEATURES` (.npz) gets the engine's log-mel of each clip, (frames, mels).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import kaldi_native_fbank
import numpy as np
import sherpa_onnx

RATE = 16_000
FIELDS = ("text", "tokens", "timestamps", "durations", "segment_texts", "segment_timestamps", "lang")


def features(samples: np.ndarray) -> np.ndarray:
    """As the engine computes them, from the library that it is built with."""
    options = kaldi_native_fbank.WhisperFeatureOptions()
    options.dim = 80
    fbank = kaldi_native_fbank.OnlineWhisperFbank(options)
    fbank.accept_waveform(RATE, samples.tolist())
    fbank.input_finished()
    mel = np.stack([fbank.get_frame(index) for index in range(fbank.num_frames_ready)])
    mel = np.log10(np.maximum(mel, 1e-10))
    return ((np.maximum(mel, mel.max() - 8) + 4) / 4).astype(np.float32)


def main() -> None:
    """Hear every clip with one recognizer."""
    job = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(job["folder"])
    recognizer = sherpa_onnx.OfflineRecognizer.from_whisper(
        encoder=str(folder / "encoder.onnx"),
        decoder=str(folder / "decoder.onnx"),
        tokens=str(folder / "tokens.txt"),
        **job["options"],
    )
    computed = {}
    for number, path in enumerate(job["clips"]):
        samples = np.load(path)
        stream = recognizer.create_stream()
        stream.accept_waveform(RATE, samples)
        recognizer.decode_stream(stream)
        computed[str(number)] = features(samples)
        said = {name: getattr(stream.result, name) for name in FIELDS}
        print(json.dumps({name: value if isinstance(value, str) else list(value) for name, value in said.items()}))
    np.savez(sys.argv[2], **computed)


if __name__ == "__main__":
    main()
