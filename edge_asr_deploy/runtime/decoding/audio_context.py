"""Audio context: how much of its window Whisper's encoder is given, and when that was too little.

Whisper pads every clip to 30 s. Silence after the speech costs as much as speech, yet some of it is needed: without,
the decoder does not notice the end and repeats itself (openai/whisper's models never saw a shorter window).
"""

from __future__ import annotations

import math

from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
from edge_asr_deploy.runtime.decoding.decoder import Decoded
from edge_asr_deploy.runtime.decoding.loops import ends_twice, is_runaway

# Lengths are multiples of this: onnxruntime plans its memory anew for every length it meets.
STEP_SECONDS = 1


def context_seconds(samples: int, margin: float, window: int) -> int:
    """Seconds of audio that the encoder is given for so many samples: with the margin, rounded up, a window at most."""
    wanted = samples / SAMPLE_RATE + margin
    return min(window, math.ceil(wanted / STEP_SECONDS) * STEP_SECONDS)


def is_doubtful(decoded: Decoded, text: str) -> bool:
    """Whether a text from a shortened window may be wrong because of that, so that the full one should decide.

    It runs into the limit or away, says its end twice, or ends where another token was likelier than not.
    """
    return decoded.capped or decoded.ending < math.log(0.5) or ends_twice(text) or is_runaway(text)
