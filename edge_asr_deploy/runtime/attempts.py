"""Which windows are decoded, how often and in which order: doubtful texts again, rests, one after another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from edge_asr_deploy.runtime.audio.windows import Clip, batches
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
Pairs = list[tuple[Clip, Window]]
# Is told what was heard, in the order of time, as soon as nothing before it is missing.
Told = Callable[[Heard], None]


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

    def run(self, clips: Sequence[Clip], job: Job, told: Told | None = None) -> tuple[list[Heard], Job]:
        """What the last attempt at every window heard, in the order of time, and the job with its language.

        Where times are asked for, windows without speech are left out (`has_no_speech`). `told` gets the same, while
        the windows behind are still to be heard.
        """
        heard: list[Heard] = []

        def done(pairs: Pairs) -> None:
            for clip, window in pairs:
                one = self._heard(clip, window)
                if self.request.timestamps is None or not has_no_speech(one.decoded):
                    heard.append(one)
                    if told is not None:
                        told(one)

        if self.request.previous_text:
            job = self._one_by_one(clips, job, done)
        elif told is None:
            pairs, job = self._run(clips, job)
            done(pairs)
        else:
            job = self._by_groups(clips, job, done)
        return heard, job

    def _by_groups(self, clips: Sequence[Clip], job: Job, done: Callable[[Pairs], None]) -> Job:
        """The groups of `Engine.windows`, of which the one with the earliest window that is missing comes next."""
        found: dict[int, Pairs] = {}
        told = 0
        groups = batches([len(clip.samples) for clip in clips], self.engine.batch, first_alone=None in job.prompt)
        for group in sorted(groups, key=min):
            pairs, job = self._run([clips[index] for index in sorted(group)], job)
            begins = [*(clips[index].time(0.0) for index in sorted(group)[1:]), math.inf]
            for index, end in zip(sorted(group), begins, strict=True):
                # Behind a window may come its rest.
                count = sum(clip.time(0.0) < end for clip, _ in pairs)
                found[index], pairs = pairs[:count], pairs[count:]
            while told in found:
                done(found.pop(told))
                told += 1
        return job

    def _one_by_one(self, clips: Sequence[Clip], job: Job, done: Callable[[Pairs], None]) -> Job:
        """Each window is told what was written for those before it."""
        prompting, plain = self.engine.family.prompting, job.prompt
        given = prompting.given(self.request)
        said: tuple[int, ...] = ()
        for clip in clips:
            context = prompting.with_text(given, said)
            one, after = self._run([clip], replace(job, prompt=(*context, *plain)))
            # The language is detected once.
            plain = after.prompt[len(context) :]
            done(one)
            # A loop feeds itself: after a doubtful window the next one starts anew.
            for _, window in one:
                said = (*said, *window.decoded.tokens) if self._is_trusted(window) else ()
        return replace(job, prompt=plain)

    def _run(self, clips: Sequence[Clip], job: Job) -> tuple[Pairs, Job]:
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
