"""Whisper, called as sherpa-onnx calls it, on the onnxruntime of this process (`offline-recognizer-whisper-impl.h`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_asr_deploy.layouts.layout import Heard
from edge_asr_deploy.runtime.audio.features import HOP, N_FFT
from edge_asr_deploy.runtime.decoding.whisper import Whisper

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
# What the engine takes for granted: this many tokens in a second of speech, and half of the positions at most.
TOKENS_PER_SECOND = 6
FRAMES_PER_SECOND = 100


def hear(bundle: Path, folder: Path, samples: NDArray[np.float32]) -> Heard:
    """The tokens of a clip that the engine pads to Whisper's whole window (`tail_paddings=3000`).

    Our log-mel takes the place of the engine's own. A multilingual model detects the language.
    """
    features: NDArray[np.float32] = Whisper(bundle).inputs(samples)["input_features"].astype(np.float32)
    sounding = -(-(len(samples) + N_FFT // 2) // HOP)
    features[:, :, sounding:] = 0
    return _Model(folder).decode(features, len(samples) // HOP)


class _Model:
    """The two sessions, and what the encoder's file says of the model."""

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        # Not `open_session`: the engine takes the files as they are.
        self._encoder, self._decoder = (
            onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
            for name in (ENCODER, DECODER)
        )
        self._says: dict[str, str] = self._encoder.get_modelmeta().custom_metadata_map

    def decode(self, features: NDArray[np.float32], frames: int) -> Heard:
        """Tokens for features (1, mels, any length), of which the first `frames` are sound."""
        cross = self._encoder.run(None, {self._encoder.get_inputs()[0].name: features})
        prompt = self._numbers("sot_sequence")
        if self._number("is_multilingual"):
            scores = self._start(cross, prompt[:1])[0][0, -1]
            prompt[1] = max(self._numbers("all_language_tokens"), key=lambda token: float(scores[token]))
        prompt.append(self._number("no_timestamps"))
        out = self._start(cross, prompt)
        most = min(int(frames / FRAMES_PER_SECOND * TOKENS_PER_SECOND), self._number("n_text_ctx") // 2)
        said: list[int] = []
        for offset in range(len(prompt), len(prompt) + most):
            token = int(out[0][0, -1].argmax())
            if token == self._number("eot"):
                return Heard(said)
            said.append(token)
            out = self._step([token], out[1:3], cross, offset)
        return Heard(said, is_capped=int(out[0][0, -1].argmax()) != self._number("eot"))

    def _start(self, cross: list[Any], tokens: list[int]) -> list[Any]:
        """The first call: caches of zeros for every position."""
        sizes = [self._number(name) for name in ("n_text_layer", "n_text_ctx", "n_text_state")]
        caches = [np.zeros((sizes[0], 1, *sizes[1:]), np.float32) for _ in range(2)]
        return self._step(tokens, caches, cross, 0)

    def _step(self, tokens: list[int], caches: list[Any], cross: list[Any], offset: int) -> list[Any]:
        feeds = [np.array([tokens], np.int64), *caches, *cross, np.array([offset], np.int64)]
        names = (value.name for value in self._decoder.get_inputs())
        return list(self._decoder.run(None, dict(zip(names, feeds, strict=True))))

    def _number(self, name: str) -> int:
        return int(self._says[name])

    def _numbers(self, name: str) -> list[int]:
        return [int(number) for number in self._says[name].split(",")]
