"""Which windows are decoded, how often and in which order: doubtful texts again, rests, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from edge_asr_deploy.runtime.audio.windows import Clip
from edge_asr_deploy.runtime.decoding.audio_context import is_doubtful
from edge_asr_deploy.runtime.decoding.loops import without_loop
from edge_asr_deploy.runtime.decoding.recording import mean
from edge_asr_deploy.runtime.decoding.request import Request
from edge_asr_deploy.runtime.decoding.timestamps import Timestamps
from edge_asr_deploy.runtime.engine import Engine, Job, Window
from edge_asr_deploy.runtime.times.details import Details
from edge_asr_deploy.runtime.times.segments import (
    LOG_PROBABILITY,
    Heard,
    compression_ratio,
    has_no_speech,
    says_nothing,
)

# openai/whisper's limit beyond which a text repeats itself, and the temperature above which a text is not trusted.
COMPRESSION_RATIO, TRUSTED = 2.4, 0.5


@dataclass
class Attempts:
    """Decodes windows as a request asks for it; `all` has every attempt, `again` counts repeated ones.

    With `vad` a doubtful text that the model itself found unlikely is none (`says_nothing`).
    """

    engine: Engine
    details: Details
    request: Request
    vad: bool = False
    all: list[Window] = field(default_factory=list)
    again: int = 0

    def run(self, clips: Sequence[Clip], job: Job) -> tuple[list[Heard], Job]:
        """What the last attempt at every window heard, in the order of time, and the job with its language.

        Where times are asked for, windows without speech are left out (`has_no_speech`).
        """
        run = self._one_by_one if self.request.previous_text else self._run
        pairs, job = run(clips, job)
        heard = [self._heard(clip, window) for clip, window in pairs]
        return [one for one in heard if self.request.timestamps is None or not has_no_speech(one.decoded)], job

    def _one_by_one(self, clips: Sequence[Clip], job: Job) -> tuple[list[tuple[Clip, Window]], Job]:
        """Each window is told what was written for those before it."""
        prompting, plain = self.engine.family.prompting, job.prompt
        given = prompting.given(self.request)
        said: tuple[int, ...] = ()
        pairs: list[tuple[Clip, Window]] = []
        for clip in clips:
            context = prompting.with_text(given, said)
            one, after = self._run([clip], replace(job, prompt=(*context, *plain)))
            # The language is detected once.
            plain = after.prompt[len(context) :]
            pairs += one
            # A loop feeds itself: after a doubtful window the next one starts anew.
            for _, window in one:
                said = (*said, *window.decoded.tokens) if self._is_trusted(window) else ()
        return pairs, replace(job, prompt=plain)

    def _run(self, clips: Sequence[Clip], job: Job) -> tuple[list[tuple[Clip, Window]], Job]:
        windows, job = self._decode(clips, job)
        doubtful = [index for index, window in enumerate(windows) if self._is_doubtful(window)]
        # A full window is only decoded again to see how likely its text is.
        self.again += sum(windows[index].is_cut for index in doubtful)
        self._replace(windows, clips, doubtful, job)
        for temperature in self.request.temperatures[1:]:
            wrong = [index for index, window in enumerate(windows) if self._needs_fallback(window)]
            self.again += len(wrong)
            self._replace(windows, clips, wrong, replace(job, temperature=temperature))
        pairs = list(zip(clips, windows, strict=True))
        if not job.times:
            return pairs, job
        rests = (self.details.rest(clip, window.decoded.tokens) for clip, window in pairs)
        left = [clip for clip in rests if clip is not None]
        behind = self._run(left, job)[0] if left else []
        return sorted([*pairs, *behind], key=lambda pair: pair[0].time(0.0)), job

    def _replace(self, windows: list[Window], clips: Sequence[Clip], indices: Sequence[int], job: Job) -> None:
        """Decode some of the windows again, in full."""
        again = replace(job, margin=None, wanted=job.wanted or self.details.scores)
        tried, _ = self._decode([clips[index] for index in indices], again)
        for index, window in zip(indices, tried, strict=True):
            windows[index] = _without_text(window) if self.vad and says_nothing(window.decoded) else window

    def _decode(self, clips: Sequence[Clip], job: Job) -> tuple[list[Window], Job]:
        windows, job = self.engine.windows([clip.samples for clip in clips], job)
        self.all += windows
        return windows, job

    def _heard(self, clip: Clip, window: Window) -> Heard:
        tokens = window.decoded.tokens
        if window.decoded.capped:
            tokens = _without_loop(tokens, self.engine.family.timestamps)
        return Heard(clip, window.decoded, tokens, self.engine.text(tokens), window.prompt, window.temperature)

    def _is_doubtful(self, window: Window) -> bool:
        looks_at_it = window.is_cut or (self.vad and window.decoded.recorded is None)
        return looks_at_it and is_doubtful(window.decoded, self.engine.text(window.decoded.tokens))

    def _needs_fallback(self, window: Window) -> bool:
        """openai/whisper's rules for another temperature: a text that repeats itself or is unlikely, but no silence."""
        recorded = window.decoded.recorded
        if recorded is None or has_no_speech(window.decoded):
            return False
        unlikely = mean(recorded.log_probabilities) < LOG_PROBABILITY
        return unlikely or compression_ratio(self.engine.text(window.decoded.tokens)) > COMPRESSION_RATIO

    def _is_trusted(self, window: Window) -> bool:
        text = self.engine.text(window.decoded.tokens)
        looks_right = not window.decoded.capped and compression_ratio(text) <= COMPRESSION_RATIO
        return looks_right and window.temperature <= TRUSTED and not is_doubtful(window.decoded, text)


def _without_text(window: Window) -> Window:
    return replace(window, decoded=replace(window.decoded, tokens=(), capped=False))


def _without_loop(tokens: tuple[int, ...], times: Timestamps | None) -> tuple[int, ...]:
    """The tokens up to the end of a loop's first phrase. Times do not count, as they differ between repetitions."""
    said = [place for place, token in enumerate(tokens) if times is None or times.seconds(token) is None]
    kept = len(without_loop([tokens[place] for place in said]))
    return tokens if kept == len(said) else tokens[: said[kept - 1] + 1]
