"""Long audio for rivals that have no way of their own to cut it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

SECONDS, RATE = 30, 16_000


def windowed(transcribe: Callable[[Any], str], samples: Any, seconds: float = SECONDS) -> str:
    """Windows of so many seconds, one after the other."""
    size = round(seconds * RATE)
    return " ".join(transcribe(samples[start : start + size]).strip() for start in range(0, len(samples), size))
