"""Moonshine for sherpa-onnx: the bundle's graphs, whose decoder needs no mask.

Moonshine's decoder takes a mask with one number for each sample and downsamples it. Earlier releases of the engine
(1.13.4) give one for each frame: right by chance up to 384 frames (9.2 s), beyond them the decoder fails and the text
is empty. A clip on its own has no padding to mask.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from edge_asr_deploy.families.moonshine import SAMPLES_PER_FRAME
from edge_asr_deploy.graph.onnx_tools.builder import Builder
from edge_asr_deploy.layouts.layout import Heard
from edge_asr_deploy.layouts.sherpa.driving import DECODER, ENCODER
from edge_asr_deploy.layouts.sherpa.parts import input_of, replace_inputs
from edge_asr_deploy.runtime.decoding.decoder import Decoder
from edge_asr_deploy.runtime.decoding.moonshine import Moonshine
from edge_asr_deploy.runtime.decoding.text import TextDecoder
from edge_asr_deploy.runtime.transcriber import Transcriber

MASK = "encoder_attention_mask"


def without_mask(model: ir.Model) -> None:
    """Let every frame be real in a bundle's decoder, and take the input for the mask away."""
    graph = model.graph
    if MASK not in {value.name for value in graph.inputs}:
        return
    builder = Builder("/sherpa")
    frames = builder.op("Shape", input_of(graph, "encoder_hidden_states"), start=1, end=2)
    samples = builder.op("Mul", frames, builder.integers(SAMPLES_PER_FRAME))
    one = builder.integers(1)
    mask = builder.op("Expand", one, builder.op("Concat", one, samples, axis=0))
    old = input_of(graph, MASK)
    old.replace_all_uses_with(mask)
    builder.add_to(graph)
    replace_inputs(graph, [value for value in graph.inputs if value is not old])


def hear(bundle: Path, folder: Path, samples: NDArray[np.float32]) -> Heard:
    """The tokens of a clip. The engine's calls are those of the runtime here."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    encoder, decoder = (
        onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
        for name in (ENCODER, DECODER)
    )
    transcriber = Transcriber(encoder, Decoder(decoder), Moonshine(bundle), TextDecoder(bundle))
    heard = transcriber.transcribe(samples)
    return Heard(heard.tokens, heard.hit_length_cap)
