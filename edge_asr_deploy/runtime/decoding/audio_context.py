"""Audio context: how much of its window Whisper's encoder gets, and signs that this was too little.

Whisper pads every clip to 30 s. Silence after the speech costs as much time as speech, but some silence is needed:
without it the decoder misses the end and repeats itself, because Whisper never saw a shorter window in training.
"""

from __future__ import annotations

import math

from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
from edge_asr_deploy.runtime.decoding.decoder import Decoded
from edge_asr_deploy.runtime.decoding.loops import ends_twice, is_runaway

# Lengths are multiples of this, because onnxruntime plans its memory again for every new length.
STEP_SECONDS = 1


def context_seconds(samples: int, margin: float, window: int) -> int:
    """Seconds of audio that the encoder gets for a clip: its length and the margin, rounded up, at most a window."""
    wanted = samples / SAMPLE_RATE + margin
    return min(window, math.ceil(wanted / STEP_SECONDS) * STEP_SECONDS)


def is_doubtful(decoded: Decoded, text: str) -> bool:
    """Whether the text of a shortened window may be wrong, so that the full window should be transcribed instead.

    Signs are: decoding ended at the token limit, the text repeats itself, its end occurs twice, or the model gave its
    last token a probability below one half.
    """
    return decoded.capped or decoded.ending < math.log(0.5) or ends_twice(text) or is_runaway(text)
