"""What both protocols share: the model's thread, places and limits."""

from __future__ import annotations

from dataclasses import dataclass

from edge_asr_deploy.serve.hearing import Hearing
from edge_asr_deploy.serve.metrics import Metrics
from edge_asr_deploy.serve.places import Budget, Places


@dataclass(frozen=True)
class Shared:
    """One of each for the whole server.

    `model` is the bundle's name, `languages` has the codes that it knows, `created` is when it was made (Unix time).
    `language`, `prompt` and `hotwords` are those of requests that name none. `largest` counts bytes of an upload,
    `longest` seconds of audio. With `is_live` an utterance is heard while it comes, which voice activity is needed for.
    """

    hearing: Hearing
    metrics: Metrics
    places: Places
    budget: Budget
    model: str
    languages: tuple[str, ...]
    created: int
    language: str | None
    prompt: str | None
    hotwords: tuple[str, ...]
    largest: int
    longest: float
    api_key: str | None = None
    is_live: bool = False
