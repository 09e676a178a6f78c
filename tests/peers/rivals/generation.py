"""Transformers' `generate`, which transformers and Optimum share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.peers.rivals.windows import RATE, windowed
from tests.peers.worker import Heard

# Moonshine's own limit on tokens per second of audio; without it the model loops on hard clips.
TOKENS_PER_SECOND = 6.5


def generated(model: Any, processor: Any, language: str | None) -> Callable[[Any], Heard]:
    """A function from samples to a text, in windows of 30 s."""
    spoken = {"language": language, "task": "transcribe"} if language else {}

    def window(samples: Any) -> str:
        inputs = processor(samples, sampling_rate=RATE, return_tensors="pt")
        if model.config.model_type == "whisper":
            options = {"return_timestamps": False, **spoken}
            tokens = model.generate(inputs.input_features, do_sample=False, num_beams=1, **options)
        else:
            longest = max(1, int(len(samples) / RATE * TOKENS_PER_SECOND))
            tokens = model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=longest)
        return str(processor.batch_decode(tokens, skip_special_tokens=True)[0])

    return lambda samples: Heard(windowed(window, samples))
