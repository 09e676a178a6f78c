"""`python hear.py ENGINE BUNDLE [LANGUAGE]` in the engines' environment: the texts of wav files on stdin, as JSON.

It imports nothing of ours: this is what a user of the engine writes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import soundfile


def onnx_asr(bundle: str, language: str) -> Callable[[Any], str]:
    """Whisper in onnx-asr. English-only checkpoints have no languages: `language` is empty."""
    from onnx_asr import load_model

    model = load_model("whisper", bundle)
    options = {"language": language} if language else {}
    return lambda samples: model.recognize(samples, sample_rate=16000, **options)


def sherpa_moonshine(bundle: str, language: str) -> Callable[[Any], str]:
    """Moonshine in sherpa-onnx."""
    from sherpa_onnx import OfflineRecognizer

    recognizer = OfflineRecognizer.from_moonshine_v2(
        encoder=f"{bundle}/encoder_model.onnx",
        decoder=f"{bundle}/decoder_model_merged.onnx",
        tokens=f"{bundle}/tokens.txt",
    )

    def hear(samples: Any) -> str:
        stream = recognizer.create_stream()
        stream.accept_waveform(16000, samples)
        recognizer.decode_stream(stream)
        return str(stream.result.text)

    return hear


ENGINES = {"onnx-asr": onnx_asr, "sherpa-onnx": sherpa_moonshine}

if __name__ == "__main__":
    engine, bundle, *rest = sys.argv[1:]
    hear = ENGINES[engine](bundle, rest[0] if rest else "")
    texts = [hear(soundfile.read(line.strip(), dtype="float32")[0]) for line in sys.stdin]
    json.dump(texts, sys.stdout)
