"""Moonshine's files in its own C library (`voice`, `voice vad`) and in plain onnxruntime (`onnxruntime`)."""

from __future__ import annotations

import base64
import ctypes
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rivals.windows import RATE, windowed
from benchmarks.worker import Heard, Job, Opened

# The vendor's own limit.
TOKENS_PER_SECOND = 6.5
START, END = 1, 2


def load(job: Job) -> Opened:
    """The vendor's two .ort files; its library takes no number of threads, only confining the process limits it."""
    folder = Path(job.folder)
    files = (folder / "encoder_model.ort", folder / "decoder_model_merged.ort")
    if job.configuration == "onnxruntime":
        window, version = _plain(files, folder / "tokens.txt", job.threads)
        return Opened(lambda samples: Heard(windowed(window, samples)), files, version)
    transcribe, version = _library(folder, "tiny" in job.model, "vad" in job.configuration)
    return Opened(transcribe, files, version)


def _library(folder: Path, is_tiny: bool, detects_speech: bool) -> tuple[Callable[[Any], Heard], str]:
    """moonshine-voice without its Python lists: samples go straight into the C call that `Transcriber` makes."""
    sys.modules.setdefault("sounddevice", types.ModuleType("sounddevice"))  # for microphones only
    from moonshine_voice import ModelArch
    from moonshine_voice.moonshine_api import TranscriptC
    from moonshine_voice.transcriber import Transcriber

    options = {"identify_speakers": "false", "max_tokens_per_second": str(TOKENS_PER_SECOND)}
    if not detects_speech:
        options["vad_threshold"] = "0.0"
    transcriber = Transcriber(str(folder), ModelArch.TINY if is_tiny else ModelArch.BASE, options=options)
    library: Any = transcriber._lib

    def transcribe(samples: Any) -> Heard:
        out = ctypes.POINTER(TranscriptC)()
        pointer = samples.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        code = library.moonshine_transcribe_without_streaming(
            transcriber._handle, pointer, len(samples), RATE, 0, ctypes.byref(out)
        )
        if code:
            raise RuntimeError(f"moonshine-voice answered {code}")
        lines = out.contents.lines[: out.contents.line_count]
        texts = (ctypes.string_at(line.text).decode("utf8", "ignore") for line in lines if line.text)
        return Heard(" ".join(texts))

    return transcribe, f"moonshine-voice library {transcriber.get_version()}"


def _plain(files: tuple[Path, Path], tokens: Path, threads: int) -> tuple[Callable[[Any], str], str]:
    """A greedy loop over the two graphs, as the vendor's useful-moonshine-onnx has it."""
    # Only here: the vendor's library has its own, and its memory is counted.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    encoder, decoder = (onnxruntime.InferenceSession(str(file), options) for file in files)
    pieces = [base64.b64decode(line.rsplit(" ", 1)[0]) for line in tokens.read_text().splitlines()]
    masked = {value.name for value in encoder.get_inputs()}, {value.name for value in decoder.get_inputs()}
    past = [value for value in decoder.get_inputs() if value.name.startswith("past_key_values")]

    def window(samples: Any) -> str:
        audio = samples[None]
        mask = np.ones_like(audio, np.int64)
        feeds = {"input_values": audio, "attention_mask": mask}
        hidden = encoder.run(None, {name: value for name, value in feeds.items() if name in masked[0]})[0]
        cache = {value.name: np.zeros((0, value.shape[1], 1, value.shape[3]), np.float32) for value in past}
        token, found = START, []
        for step in range(max(1, int(len(samples) / RATE * TOKENS_PER_SECOND))):
            given = {
                "input_ids": np.array([[token]], np.int64),
                "encoder_hidden_states": hidden,
                "use_cache_branch": np.array([step > 0]),
                "encoder_attention_mask": mask,
            }
            logits, *present = decoder.run(None, {k: v for k, v in given.items() if k in masked[1]} | cache)
            token = int(logits[0, -1].argmax())
            if token == END:
                break
            found.append(pieces[token])
            for value, new in zip(past, present, strict=True):
                # The cross-attention part is made by the first call.
                if step == 0 or ".decoder." in value.name:
                    cache[value.name] = new
        return b"".join(found).decode("utf8", "replace").replace("▁", " ")

    return window, f"onnxruntime {onnxruntime.__version__}"
