"""A cache of transcripts. A bundle always writes the same texts, so that they need not be computed in every run."""

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
from edge_asr_deploy.runtime.options import Margin
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.transcript import Transcript
from edge_asr_deploy.sealing import sealed, unsealed
from edge_asr_deploy.sources import source_hash


@dataclass(frozen=True)
class Text:
    """The part of a transcript that is the same in every run: everything except times."""

    text: str
    tokens: int
    windows: int
    hit_length_cap: bool
    fallbacks: int = 0
    loops: int = 0

    @classmethod
    def of(cls, transcript: Transcript) -> Text:
        """The part of a transcript that is the same in every run."""
        tokens, capped = len(transcript.tokens), transcript.hit_length_cap
        return cls(transcript.text, tokens, transcript.windows, capped, transcript.fallbacks, transcript.loops)


class TranscriptCache:
    """Texts on disk below `root`, by utterance fingerprint, for one bundle with one set of options.

    The cache key covers everything that can change a text: the files of the bundle, the target whose graphs ran,
    threads, accuracy level, audio context, onnxruntime's version, the CPU (kernels round differently) and the runtime's
    own source.
    """

    def __init__(
        self,
        root: Path,
        bundle_hash: str,
        settings: SessionSettings,
        options: dict[str, str],
        target: str | None = None,
        audio_context: Margin = None,
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
        """The text of the utterance with this fingerprint. None if there is no readable entry."""
        with suppress(OSError, ValidationError):
            owner, _, content = (unsealed((self.folder / f"{fingerprint}.json").read_bytes()) or "").partition("\n")
            text: Text = TypeAdapter(Text).validate_json(content)
            # A file under another utterance's name is another utterance's text.
            return text if owner == fingerprint else None
        return None

    def put(self, fingerprint: str, text: Text) -> None:
        """Store a text. A folder that cannot be written is no error: the next run is only slower."""
        with suppress(OSError):
            content = f"{fingerprint}\n{json.dumps(dataclasses.asdict(text))}"
            write_atomically(self.folder / f"{fingerprint}.json", sealed(content))


def default_root() -> Path:
    """The folder of the cache."""
    return cache_root() / "transcripts"
