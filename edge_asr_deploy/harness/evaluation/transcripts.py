"""Transcripts of bundles, kept between runs: the baseline's text does not change, so it is not computed each time."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
from pydantic import TypeAdapter, ValidationError

from edge_asr_deploy.cache import cache_root
from edge_asr_deploy.files import write_atomically
from edge_asr_deploy.harness.machine.environment import cpu_name
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.transcriber import Transcript
from edge_asr_deploy.sources import source_hash


@dataclass(frozen=True)
class Text:
    """What of a transcript is the same in every run: no times."""

    text: str
    tokens: int
    windows: int
    hit_length_cap: bool
    fallbacks: int = 0
    loops: int = 0

    @classmethod
    def of(cls, transcript: Transcript) -> Text:
        """The lasting part of a transcript."""
        tokens, capped = len(transcript.tokens), transcript.hit_length_cap
        return cls(transcript.text, tokens, transcript.windows, capped, transcript.fallbacks, transcript.loops)


class TranscriptCache:
    """Texts by utterance fingerprint, for one bundle under one setting, on disk below `root`.

    The key holds all that can change a text: the files of the bundle, the target whose graphs ran, threads, accuracy
    level and audio context, onnxruntime's version, the CPU (kernels round differently) and the runtime's own source.
    """

    def __init__(
        self,
        root: Path,
        bundle_hash: str,
        settings: SessionSettings,
        options: dict[str, str],
        target: str | None = None,
        audio_context: float | None = None,
    ) -> None:
        parts = {
            "bundle": bundle_hash,
            "target": target,
            "threads": settings.threads,
            "accuracy_level": settings.accuracy_level,
            "audio_context": audio_context,
            "options": options,
            "onnxruntime": onnxruntime.__version__,
            "cpu": cpu_name(),
            "runtime": source_hash(["runtime.transcriber"]),
        }
        self.folder = root / hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    def get(self, fingerprint: str) -> Text | None:
        """The text of that utterance, or None; an unreadable entry counts as none."""
        with suppress(OSError, ValidationError):
            content = (self.folder / f"{fingerprint}.json").read_bytes()
            text: Text = TypeAdapter(Text).validate_json(content)
            return text
        return None

    def put(self, fingerprint: str, text: Text) -> None:
        """Keep a text. Where the folder cannot be written the next run is slower, no more: that is no error."""
        with suppress(OSError):
            write_atomically(self.folder / f"{fingerprint}.json", json.dumps(dataclasses.asdict(text)))


def default_root() -> Path:
    """Where texts are kept between runs."""
    return cache_root() / "transcripts"
