"""What a user asks of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from edge_asr_deploy.options import Option
from edge_asr_deploy.runtime.options import ACCURACY_LEVEL, AUDIO_CONTEXT, TARGET, parse_audio_context


@dataclass(frozen=True)
class EvaluateOptions:
    """How to measure a bundle.

    `data` are JSONL manifests or sets of the Hub (`open-asr:ami:200`, `common-voice:en`); without any the default
    evaluation corpus is used. The baseline runs with its own target's graphs and full windows. `clips`, `rounds` and
    `seed` are of the speed part.
    """

    baseline: Annotated[
        str, Option("Float bundle to compare with; `auto` finds it beside BUNDLE, `none` leaves it out.")
    ] = "auto"
    data: Annotated[
        tuple[str, ...],
        Option(
            "JSONL manifest of speech with text, or a set of the Hub: open-asr:all, open-asr:ami, "
            "open-asr:ami:200 (the first 200 clips), common-voice:en:200. May be given several times.",
            metavar="SPEECH",
        ),
    ] = ()
    threads: Annotated[int, Option("Threads within an operator.", least=1)] = 2
    accuracy_level: Annotated[int | None, ACCURACY_LEVEL] = None
    target: Annotated[str | None, TARGET] = None
    audio_context: Annotated[str, AUDIO_CONTEXT] = "full"
    language: Annotated[str, Option("Language of the speech; decides the text normalizer too.")] = "en"
    limit: Annotated[int | None, Option("At most so many utterances of each corpus.", least=1)] = None
    jobs: Annotated[int, Option("Processes that transcribe at once; speed is always timed alone.", least=1)] = 1
    speed: Annotated[bool, Option("Time a few clips, bundle and baseline in turn.")] = True
    cache: Annotated[bool, Option("Reuse transcripts of earlier runs of the same bundle.")] = True
    output: Annotated[Path | None, Option("Write the result, with a row per utterance, to this file.")] = None
    clips: int = 5
    rounds: int = 3
    seed: int = 0

    @property
    def margin(self) -> float | None:
        """Seconds after the clip that Whisper's encoder is given; None: its whole window. UserError for nonsense."""
        return parse_audio_context(self.audio_context)
