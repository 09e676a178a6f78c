"""Text while somebody speaks: samples go in as they arrive, events come out.

Voice activity says where speech begins and ends. While it lasts, the growing stretch is decoded again and again, and
what two decodings agree on stays (`agreement`). At the first sign of a pause the stretch is decoded as a whole, so that
its text is there when the pause is long enough to be the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_asr_deploy.errors import Stopped, UserError
from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
from edge_asr_deploy.runtime.audio.samples import as_samples
from edge_asr_deploy.runtime.audio.spans import CHUNK, FEWEST, PAUSE, SPEECH
from edge_asr_deploy.runtime.live.agreement import stable_tokens
from edge_asr_deploy.runtime.live.events import Event, Final, Partial, SpeechStarted
from edge_asr_deploy.runtime.transcript import Segment
from edge_asr_deploy.runtime.voice import VoiceDetector

# Seconds before the first sign of speech that belong to it.
BEFORE = 0.5
# A pause of this many seconds is decoded, in case it is the end.
LIKELY_END = 0.2
# The pause that ends a stretch of speech, by its length so far, all in seconds: the longer it gets, the shorter the
# pause that is taken, and at the last it is cut in any case. So no window gets full, and no word is cut but in speech
# without any pause.
PATIENCE = ((12.0, 0.6), (20.0, 0.3), (27.0, 0.06), (28.0, 0.0))
# Decodings of less than this agree on wrong words too often.
MATURE = 2.0
# A growing stretch is decoded again after this many seconds of speech, and after this many times its own cost.
EVERY, SHARE = 0.5, 3.0


class Decode(Protocol):
    """Decodes samples (n,), with a text that begins with the tokens `said`."""

    @property
    def language(self) -> str | None:
        """The code of the language of the last text, where the model knows several."""

    def __call__(self, samples: NDArray[np.float32], said: tuple[int, ...], last: bool) -> Segment:
        """A segment with times in seconds of the samples. `last`: no more will be said. Else Stopped may be raised."""


@dataclass
class _Stretch:
    """Speech that has not ended: its samples, from which index of the stream on, and its text so far."""

    start: int
    first_speech: int
    last_speech: int
    samples: list[NDArray[np.float32]]
    before: tuple[int, ...] = ()
    stable: tuple[int, ...] = ()
    shown: Partial | None = None
    ended: Segment | None = None
    due: float = 0.0


class Stream:
    """Speech as it arrives, 16 kHz, one channel, full scale 1. `Transcriber.stream` makes one.

    It keeps the stretch that is being spoken, at most 30 s, and nothing else, so that it can run for months.
    """

    def __init__(
        self,
        decode: Decode,
        text: Callable[[Sequence[int]], str],
        voice: VoiceDetector,
        only_stable: bool = False,
        hurry: Callable[[], bool] = lambda: False,
    ) -> None:
        self._decode, self._text, self._voice, self._hurry = decode, text, voice, hurry
        self._first = MATURE if only_stable else EVERY
        self._memory = voice.start()
        self._rest = np.zeros(0, np.float32)
        self._earlier = np.zeros(0, np.float32)
        self._heard = 0
        self._run = 0
        self._stretch: _Stretch | None = None
        self._is_finished = False

    @property
    def language(self) -> str | None:
        """The code of the language of the last text, where the model knows several."""
        return self._decode.language

    @property
    def is_ready(self) -> bool:
        """Whether the final text is there already, should nothing more be said: it was decoded within a pause."""
        return self._stretch is not None and self._stretch.ended is not None

    def push(self, samples: ArrayLike) -> list[Event]:
        """Take the next samples (n,), any number of them; returns what they tell.

        Decoding happens in this call, about once for every half second of speech. UserError as for
        `Transcriber.transcribe`, and for a stream that was finished.
        """
        if self._is_finished:
            raise UserError("stream", "finished", "make another with Transcriber.stream()")
        arrived = np.concatenate([self._rest, as_samples(samples)]) if np.size(samples) else self._rest
        whole = len(arrived) // CHUNK * CHUNK
        self._rest = arrived[whole:]
        events: list[Event] = []
        for chunk in arrived[:whole].reshape(-1, CHUNK):
            events.extend(self._next(chunk))
        events.extend(self._partial())
        return events

    def finish(self) -> list[Event]:
        """The stream has ended: what was being said is final."""
        events: list[Event] = []
        if len(self._rest):
            events.extend(self._next(np.pad(self._rest, (0, CHUNK - len(self._rest)))))
        if self._stretch is not None:
            events.append(self._end(self._stretch))
        self._is_finished = True
        return events

    def _next(self, chunk: NDArray[np.float32]) -> list[Event]:
        """One chunk of 32 ms: speech begins, goes on, pauses or ends."""
        probability = float(self._voice.step(self._memory, chunk[None])[0])
        self._heard += CHUNK
        self._run = self._run + 1 if probability >= SPEECH else 0
        stretch = self._stretch
        if stretch is None:
            self._earlier = np.concatenate([self._earlier, chunk])[-int(BEFORE * SAMPLE_RATE) - FEWEST * CHUNK :]
            if self._run < FEWEST:
                return []
            begun = self._heard - FEWEST * CHUNK
            start = self._heard - len(self._earlier)
            self._stretch = _Stretch(start, begun, self._heard, [self._earlier], due=self._first)
            return [SpeechStarted(begun / SAMPLE_RATE)]
        stretch.samples.append(chunk)
        if probability >= PAUSE:
            stretch.last_speech, stretch.ended = self._heard, None
        pause = (self._heard - stretch.last_speech) / SAMPLE_RATE
        length = self._seconds(stretch)
        patience = next((pause for seconds, pause in PATIENCE if length < seconds), 0.0)
        if pause >= patience:
            return [self._end(stretch)]
        if pause >= LIKELY_END and stretch.ended is None and not self._hurry():
            stretch.ended = self._decoded(stretch, last=True)
        return []

    def _partial(self) -> list[Event]:
        """The text so far, where it is time to decode again and the text has changed."""
        stretch = self._stretch
        if stretch is None or stretch.ended is not None or (length := self._seconds(stretch)) < stretch.due:
            return []
        if self._hurry():
            return []
        started = perf_counter()
        try:
            segment = self._decoded(stretch, last=False)
        except Stopped:
            return []
        stretch.due = length + max(EVERY, SHARE * (perf_counter() - started))
        tokens = segment.tokens
        if length >= MATURE:
            stretch.stable = stable_tokens(stretch.before, tokens, len(stretch.stable), self._text)
            stretch.before = tokens
        partial = Partial(segment.text, self._text(stretch.stable))
        if partial == stretch.shown or not partial.text:
            return []
        stretch.shown = partial
        return [partial]

    def _seconds(self, stretch: _Stretch) -> float:
        """The length of a stretch so far."""
        return (self._heard - stretch.start) / SAMPLE_RATE

    def _decoded(self, stretch: _Stretch, last: bool) -> Segment:
        return self._decode(np.concatenate(stretch.samples), stretch.stable, last)

    def _end(self, stretch: _Stretch) -> Final:
        segment = stretch.ended or self._decoded(stretch, last=True)
        self._stretch, self._run = None, 0
        # What follows at once may begin within this pause.
        self._earlier = np.concatenate(stretch.samples)[stretch.last_speech - stretch.start :]
        self._earlier = self._earlier[-int(BEFORE * SAMPLE_RATE) :]
        return Final(_at(segment, stretch))


def _at(segment: Segment, stretch: _Stretch) -> Segment:
    """A segment with times of the stream; the whole of it lies between the first and the last sign of speech."""
    offset = stretch.start / SAMPLE_RATE
    words = tuple(replace(word, start=word.start + offset, end=word.end + offset) for word in segment.words)
    return replace(
        segment, start=stretch.first_speech / SAMPLE_RATE, end=stretch.last_speech / SAMPLE_RATE, words=words
    )
