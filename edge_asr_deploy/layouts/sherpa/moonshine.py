"""Moonshine for sherpa-onnx: the bundle's graphs, whose decoder needs no mask.

Moonshine's decoder takes a mask with one number for each sample and downsamples it. Earlier releases of the engine
(1.13.4) give one for each frame: right by chance up to 384 frames (9.2 s), beyond them the decoder fails and the text
is empty. A clip on its own has no padding to mask.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_asr_deploy.layouts.layout import Heard
from edge_asr_deploy.layouts.sherpa.driving import DECODER, ENCODER
from edge_asr_deploy.runtime.decoding.decoder import Decoder
from edge_asr_deploy.runtime.decoding.moonshine import Moonshine
from edge_asr_deploy.runtime.decoding.text import TextDecoder
from edge_asr_deploy.runtime.transcriber import Transcriber


def hear(bundle: Path, folder: Path, samples: NDArray[np.float32]) -> Heard:
    """The tokens of a clip. The engine's calls are those of the runtime here."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    encoder, decoder = (
        onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
        for name in (ENCODER, DECODER)
    )
    transcriber = Transcriber(encoder, Decoder(decoder), Moonshine(bundle), TextDecoder(bundle), vad=False)
    heard = transcriber.transcribe(samples)
    return Heard(heard.tokens, heard.hit_length_cap)
