"""transformers on PyTorch, float32: the reference for words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

from benchmarks.rivals.generation import generated
from benchmarks.worker import Job, Opened


def load(job: Job) -> Opened:
    """Whisper or Moonshine from a Transformers folder."""
    torch.set_num_threads(job.threads)
    torch.set_num_interop_threads(1)
    folder = Path(job.folder)
    model: Any = AutoModelForSpeechSeq2Seq.from_pretrained(folder, dtype=torch.float32).eval()
    transcribe = torch.inference_mode()(generated(model, AutoProcessor.from_pretrained(folder), job.language))
    version = f"transformers {transformers.__version__}, torch {torch.__version__}"
    return Opened(transcribe, tuple(folder.glob("*.safetensors")), version)
