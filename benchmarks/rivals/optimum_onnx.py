"""Optimum's onnxruntime pipeline, merged decoder with cache, as its exporter makes it."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import torch
from optimum.onnxruntime import ORTModelForSpeechSeq2Seq
from transformers import AutoProcessor

from benchmarks.rivals.generation import generated
from benchmarks.worker import Job, Opened

FILES = ("encoder_model.onnx", "decoder_model_merged.onnx")


def load(job: Job) -> Opened:
    """Whisper or Moonshine from a folder that `optimum-cli export onnx` wrote."""
    torch.set_num_threads(job.threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = job.threads, 1
    folder = Path(job.folder)
    model = ORTModelForSpeechSeq2Seq.from_pretrained(
        folder, use_cache=True, session_options=options, provider="CPUExecutionProvider"
    )
    transcribe = generated(model, AutoProcessor.from_pretrained(folder), job.language)
    return Opened(transcribe, tuple(folder / name for name in FILES), f"onnxruntime {onnxruntime.__version__}")
