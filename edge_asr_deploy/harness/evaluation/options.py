"""The options of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from edge_asr_deploy.options import Option
from edge_asr_deploy.runtime.options import (
    ACCURACY_LEVEL,
    AUDIO_CONTEXT,
    DEFAULT_AUDIO_CONTEXT,
    TARGET,
    Margin,
    parse_audio_context,
)


@dataclass(frozen=True)
class EvaluateOptions:
    """How to measure a bundle.

    `data` are JSONL manifests or data sets of the Hub (`open-asr:ami:200`, `common-voice:en`); without any, the default
    evaluation corpus is used. The baseline always runs its own target's graphs on full windows. `clips` and `rounds`
    say how many clips are timed and how often; `seed` decides which utterances `limit` draws, and seeds the bootstrap.
    """

    baseline: Annotated[
        str, Option("Float bundle to compare with; `auto` finds it beside BUNDLE, `none` leaves it out.")
    ] = "auto"
    data: Annotated[
        tuple[str, ...],
        Option(
            "JSONL manifest of speech with text, or a data set of the Hub: open-asr:all, open-asr:ami, "
            "open-asr:ami:200 (the first 200 clips), common-voice:en:200. May be given several times.",
            metavar="SPEECH",
        ),
    ] = ()
    threads: Annotated[int, Option("Threads within an operator.", least=1)] = 2
    accuracy_level: Annotated[int | None, ACCURACY_LEVEL] = None
    target: Annotated[str | None, TARGET] = None
    audio_context: Annotated[str, AUDIO_CONTEXT] = DEFAULT_AUDIO_CONTEXT
    language: Annotated[str, Option("Language of the speech; it also decides the text normalizer.")] = "en"
    limit: Annotated[int | None, Option("Use at most this many utterances of each corpus.", least=1)] = None
    jobs: Annotated[
        int, Option("Number of processes that transcribe at once; speed is always timed alone.", least=1)
    ] = 1
    skip_unreadable: Annotated[
        bool, Option("Go on without clips whose audio cannot be read, and count them.", switch=True)
    ] = False
    leaderboard: Annotated[
        bool, Option("Also count errors as the live Open ASR leaderboard does (extra `leaderboard`).", switch=True)
    ] = False
    speed: Annotated[bool, Option("Time a few clips, with bundle and baseline in turn.")] = True
    cache: Annotated[bool, Option("Reuse transcripts of earlier runs of the same bundle.")] = True
    output: Annotated[Path | None, Option("Write the result, with one row per utterance, as JSON to this file.")] = None
    clips: int = 5
    rounds: int = 3
    seed: int = 0

    @property
    def margin(self) -> Margin:
        """Seconds of silence after the clip for Whisper's encoder; None for its whole window. UserError if invalid."""
        return parse_audio_context(self.audio_context)
