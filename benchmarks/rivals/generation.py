"""Transformers' `generate`, which transformers and Optimum share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.rivals.windows import RATE, SECONDS, windowed
from benchmarks.worker import Heard

# Moonshine's own limit on tokens per second of audio; without it the model loops on hard clips.
TOKENS_PER_SECOND = 6.5


def generated(model: Any, processor: Any, language: str | None) -> Callable[[Any], Heard]:
    """A function from samples to a text: Whisper by its long-form algorithm, Moonshine in windows of 30 s."""
    spoken = {"language": language, "task": "transcribe"} if language else {}

    def whisper(samples: Any) -> Heard:
        is_long = len(samples) > SECONDS * RATE
        # Beyond a window the timestamps tell where the next one begins; without them it loses words.
        more = {"truncation": False, "padding": "longest", "return_attention_mask": True} if is_long else {}
        inputs = processor(samples, sampling_rate=RATE, return_tensors="pt", **more)
        tokens = model.generate(**inputs, do_sample=False, num_beams=1, return_timestamps=is_long, **spoken)
        return Heard(str(processor.batch_decode(tokens, skip_special_tokens=True)[0]))

    def moonshine(samples: Any) -> str:
        inputs = processor(samples, sampling_rate=RATE, return_tensors="pt")
        longest = max(1, int(len(samples) / RATE * TOKENS_PER_SECOND))
        tokens = model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=longest)
        return str(processor.batch_decode(tokens, skip_special_tokens=True)[0])

    if model.config.model_type == "whisper":
        return whisper
    return lambda samples: Heard(windowed(moonshine, samples))
