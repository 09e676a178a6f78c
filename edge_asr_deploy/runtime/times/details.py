"""Segments of whole windows, as a request asks for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
from edge_asr_deploy.runtime.audio.windows import Clip
from edge_asr_deploy.runtime.decoding.decoder import Decoder
from edge_asr_deploy.runtime.decoding.family import Family
from edge_asr_deploy.runtime.decoding.recording import Wanted
from edge_asr_deploy.runtime.decoding.request import Request
from edge_asr_deploy.runtime.decoding.text import TextDecoder
from edge_asr_deploy.runtime.times.alignment import token_frames
from edge_asr_deploy.runtime.times.pauses import outside_pauses, pauses
from edge_asr_deploy.runtime.times.segments import Heard, between_times, from_words, unfinished_from, whole
from edge_asr_deploy.runtime.times.words import TimedWord, timed_words
from edge_asr_deploy.runtime.transcript import Segment

# A rest of a window that is transcribed again has at least so many seconds.
LEAST_REST = 1.0


class Details:
    """Turns decoded windows of one model into segments."""

    def __init__(self, family: Family, text: TextDecoder, decoder: Decoder) -> None:
        self._family, self._text = family, text
        # The layers whose attention tells times; none where a bundle cannot hand it out.
        layers = {layer for layer, _ in family.alignment.heads}
        self._layers = tuple(sorted(layers)) if layers and decoder.layers_with_queries >= layers else ()

    def wanted(self, request: Request) -> Wanted:
        """What decoding has to write down. UserError where a bundle has not what word times need."""
        layers = self._layers if request.timestamps is not None else ()
        if request.timestamps == "word" and not layers:
            raise UserError("--timestamps", "word", "this bundle was exported before word times; export it again")
        return Wanted(layers, self._family.no_speech)

    @property
    def scores(self) -> Wanted:
        """What tells how likely a text is."""
        return Wanted((), self._family.no_speech)

    @property
    def by_tokens(self) -> bool:
        """Whether segments are told by timestamp tokens, for want of words with times.

        Words are better at it: the text is that of plain decoding, and more segments begin where somebody begins to
        speak (docs/log/performance.md).
        """
        return not self._layers and self._family.timestamps is not None

    def language(self, prompt: Sequence[int | None]) -> str | None:
        """The language that a prompt names."""
        names = self._family.languages()
        return next((names[token] for token in prompt if token is not None and token in names), None)

    def segments(self, windows: Sequence[Heard], request: Request, prompt: Sequence[int | None]) -> tuple[Segment, ...]:
        """The segments of all windows; none unless times were asked for."""
        if request.timestamps is None:
            return ()
        language = self.language(prompt)
        return tuple(segment for heard in windows for segment in self._of_window(heard, request, language))

    def _of_window(self, heard: Heard, request: Request, language: str | None) -> list[Segment]:
        if self._layers:
            return from_words(heard, self._words(heard, language), with_words=request.timestamps == "word")
        if self._family.timestamps is not None:
            return between_times(heard, self._family.timestamps, self._text)
        return whole(heard)

    def rest(self, clip: Clip, tokens: Sequence[int]) -> Clip | None:
        """The part of a window behind its text, where the model left it to another window. Else None."""
        times = self._family.timestamps
        seconds = None if times is None else unfinished_from(tokens, times)
        if seconds is None or seconds == 0 or len(clip.samples) / SAMPLE_RATE - seconds < LEAST_REST:
            return None
        return clip.after(round(seconds * SAMPLE_RATE))

    def _words(self, heard: Heard, language: str | None) -> list[TimedWord]:
        family = self._family
        if not heard.tokens:
            return []
        frames = max(1, round(heard.seconds / family.frame_seconds))
        starts = token_frames(heard.recorded, family.alignment.heads, frames, heard.prompt)
        # Without an end token the last row is missing: the last token ends with the audio.
        ends = np.full(max(0, len(heard.tokens) + 1 - len(starts)), frames)
        seconds = np.concatenate([starts, ends])[: len(heard.tokens) + 1] * family.frame_seconds
        seconds = np.clip(seconds - family.alignment.late, 0, heard.seconds)
        words = timed_words(self._text.pieces(heard.tokens), seconds, language)
        return outside_pauses(words, pauses(heard.clip.samples))
