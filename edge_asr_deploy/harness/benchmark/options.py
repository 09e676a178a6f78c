"""The options of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from edge_asr_deploy.options import Option
from edge_asr_deploy.runtime.options import (
    ACCURACY_LEVEL,
    AUDIO_CONTEXT,
    DEFAULT_AUDIO_CONTEXT,
    TARGET,
    parse_audio_context,
)

if TYPE_CHECKING:
    # This import loads pydantic, which the command line does not need to start.
    from edge_asr_deploy.harness.benchmark.result import Options


@dataclass(frozen=True)
class BenchOptions:
    """How to time a bundle. `data` names the speech that the audio is cut from, as in `EvaluateOptions`."""

    baseline: Annotated[
        str,
        Option("Bundle to time in turn with BUNDLE; `auto` finds the float one beside it, `none` leaves it out."),
    ] = "none"
    data: Annotated[
        tuple[str, ...],
        Option("Speech to cut the audio from, as for evaluate. May be given several times.", metavar="SPEECH"),
    ] = ()
    threads: Annotated[
        tuple[int, ...], Option("Threads within an operator; several numbers (1,2,4) make a sweep.", commas=True)
    ] = (2,)
    accuracy_level: Annotated[int | None, ACCURACY_LEVEL] = None
    target: Annotated[str | None, TARGET] = None
    audio_context: Annotated[str, AUDIO_CONTEXT] = DEFAULT_AUDIO_CONTEXT
    language: Annotated[str, Option("Language of the speech, for multilingual models.")] = "en"
    lengths: Annotated[tuple[float, ...], Option("Seconds of audio, separated by commas.", commas=True)] = (
        1.5,
        3.0,
        10.0,
        30.0,
        75.0,
    )
    rounds: Annotated[
        int, Option("Number of rounds: each is a fresh process that times every length once.", least=1)
    ] = 5
    soak: Annotated[
        float,
        Option("Afterwards, keep one process busy for this long and watch its memory.", metavar="SECONDS", least=0),
    ] = 0.0
    profile: Annotated[bool, Option("Afterwards, show which operators take the time.", switch=True)] = False
    live: Annotated[
        bool, Option("Instead, play recordings in real time into a stream, and time what a speaker sees.", switch=True)
    ] = False
    clips: Annotated[int, Option("Recordings that --live plays.", least=1)] = 20
    output: Annotated[Path | None, Option("Write the result as JSON to this file.")] = None

    @property
    def recorded(self) -> Options:
        """The options that become part of the result. UserError for an invalid audio context."""
        from edge_asr_deploy.harness.benchmark.result import Options

        return Options(
            threads=self.threads,
            accuracy_level=self.accuracy_level,
            target=self.target,
            audio_context=parse_audio_context(self.audio_context),
            language=self.language,
            lengths=self.lengths,
            rounds=self.rounds,
            soak=self.soak,
            profile=self.profile,
        )
