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
from edge_asr_deploy.runtime.engine import Engine, Job
from edge_asr_deploy.runtime.times.details import Details
from edge_asr_deploy.runtime.times.segments import compression_ratio
from edge_asr_deploy.runtime.transcript import Segment


@dataclass(frozen=True)
class StretchDecoder:
    """Texts of a stretch: quick ones while it grows, and at its end one as careful as a file's."""

    engine: Engine
    details: Details
    job: Job

    def __call__(self, samples: NDArray[np.float32], said: tuple[int, ...], last: bool) -> Segment:
        """Decode samples (n,) with a text that begins with the tokens `said`. Times are those of the samples."""
        job = replace(self.job, said=said)
        if last:
            job = replace(job, wanted=self.details.scores)
            # Where something was said already, the rest may well be less than a dozen unlikely tokens.
            attempts = Attempts(self.engine, self.details, Request(), vad=not said)
            heard, _ = attempts.run([Clip(samples, ((0, 0),))], job)
            tokens = tuple(token for one in heard for token in one.tokens)
            recorded = heard[0].recorded if heard else None
        else:
            [window], _ = self.engine.windows([samples], job)
            tokens, recorded = window.decoded.tokens, None
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
