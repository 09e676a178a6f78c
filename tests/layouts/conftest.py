"""A small random Whisper in a Transformers folder, and noise to calibrate on."""

from __future__ import annotations

from tests.support.fixtures_checkpoint import checkpoint, speech

__all__ = ["checkpoint", "speech"]
