"""Decodes a stretch of speech that may still grow."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.runtime.attempts import Attempts
from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
from edge_asr_deploy.runtime.audio.windows import Clip
from edge_asr_deploy.runtime.decoding.recording import mean
from edge_asr_deploy.runtime.decoding.request import Request
from edge_asr_deploy.runtime.engine import Engine, Job, Prompt, Stop, never
from edge_asr_deploy.runtime.times.details import Details
from edge_asr_deploy.runtime.times.segments import compression_ratio
from edge_asr_deploy.runtime.transcript import Segment


@dataclass
class StretchDecoder:
    """Texts of a stretch: quick ones while it grows, and at its end one as careful as a file's.

    Once `hurry` says so, a quick one is given up (Stopped). `language` is that of the last text.
    """

    engine: Engine
    details: Details
    job: Job
    hurry: Stop = never
    language: str | None = None
    _prompt: Prompt = ()

    def __call__(self, samples: NDArray[np.float32], said: tuple[int, ...], last: bool) -> Segment:
        """Decode samples (n,) with a text that begins with the tokens `said`. Times are those of the samples."""
        # What was said holds for one language.
        job = replace(self.job, said=said, prompt=self._prompt if said else self.job.prompt)
        if last:
            job = replace(job, wanted=self.details.scores)
            # Where something was said already, the rest may well be less than a dozen unlikely tokens.
            attempts = Attempts(self.engine, self.details, Request(), vad=not said)
            heard, job = attempts.run([Clip(samples, ((0, 0),))], job)
            tokens = tuple(token for one in heard for token in one.tokens)
            recorded = heard[0].recorded if heard else None
        else:
            [window], job = self.engine.windows([samples], replace(job, stop=self.hurry, quick=True))
            tokens, recorded = window.decoded.tokens, None
        self._prompt, self.language = job.prompt, self.details.language(job.prompt)
        text = self.engine.text((*said, *tokens))
        return Segment(
            start=0.0,
            end=len(samples) / SAMPLE_RATE,
            text=text,
            tokens=(*said, *tokens),
            average_log_probability=mean(recorded.log_probabilities) if recorded else 0.0,
            no_speech_probability=recorded.no_speech if recorded else None,
            compression_ratio=compression_ratio(text),
            temperature=job.temperature,
        )
