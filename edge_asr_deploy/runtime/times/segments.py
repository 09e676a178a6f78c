"""Segments of a window: between its timestamp tokens, from its words, or the window as a whole."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
from edge_asr_deploy.runtime.audio.windows import Clip
from edge_asr_deploy.runtime.decoding.decoder import Decoded
from edge_asr_deploy.runtime.decoding.recording import Recorded, mean
from edge_asr_deploy.runtime.decoding.text import TextDecoder
from edge_asr_deploy.runtime.decoding.timestamps import Timestamps
from edge_asr_deploy.runtime.times.words import SENTENCE_ENDS, TimedWord
from edge_asr_deploy.runtime.transcript import Segment, Word

# A silence between two words that ends a segment.
PAUSE = 1.0
# openai/whisper's rule for a window without speech: this probability of no speech, and a text less likely than this.
NO_SPEECH, LOG_PROBABILITY = 0.6, -1.0
# A text is no speech at all if its first tokens are less likely than this, on average. Voices played backwards have at
# most -1.16 with every bundle that was tried, doubtful texts of English speech at least -0.5 (docs/log/performance.md).
NOTHING, FIRST = -1.1, 12
ABBREVIATIONS = frozenset({"mr.", "mrs.", "ms.", "dr.", "st.", "prof."})


@dataclass(frozen=True)
class Heard:
    """A window with what was decoded: `tokens` is what is shown of it, times included.

    `prompt` tokens were fed before the first decoded one.
    """

    clip: Clip
    decoded: Decoded
    tokens: tuple[int, ...]
    text: str
    prompt: int
    temperature: float = 0.0

    @property
    def seconds(self) -> float:
        """The length of the window."""
        return len(self.clip.samples) / SAMPLE_RATE

    @property
    def recorded(self) -> Recorded:
        """What was written down; there because times were asked for."""
        assert self.decoded.recorded is not None
        return self.decoded.recorded

    def segment(
        self, start: float, end: float, text: str, first: int, last: int, words: Sequence[Word] = ()
    ) -> Segment:
        """A segment of the tokens `first:last`, with times of the window."""
        probabilities = self.recorded.log_probabilities
        stop = len(probabilities) if last == len(self.decoded.tokens) else last
        start, end = min(max(start, 0.0), self.seconds), min(max(end, start), self.seconds)
        return Segment(
            *self.in_recording(start, end),
            text,
            self.tokens[first:last],
            mean(probabilities[first:stop]),
            self.recorded.no_speech,
            compression_ratio(self.text),
            self.temperature,
            tuple(words),
        )

    def in_recording(self, start: float, end: float) -> tuple[float, float]:
        """Times of the window as times of the recording. An end belongs to the piece of audio before it."""
        begin = self.clip.time(start)
        return round(begin, 3), round(max(begin, self.clip.time(max(0.0, end - 1 / SAMPLE_RATE))), 3)


def has_no_speech(decoded: Decoded) -> bool:
    """openai/whisper's rule: probably no speech, and an unlikely text."""
    recorded = decoded.recorded
    if recorded is None or recorded.no_speech is None:
        return False
    return recorded.no_speech > NO_SPEECH and mean(recorded.log_probabilities) < LOG_PROBABILITY


def says_nothing(decoded: Decoded) -> bool:
    """Whether a doubtful text was made of sounds that are no words. Only its beginning counts: loops are confident."""
    return decoded.recorded is not None and mean(decoded.recorded.log_probabilities[:FIRST]) < NOTHING


def compression_ratio(text: str) -> float:
    """The length of a text divided by that of its zlib-compressed form, as openai/whisper counts it."""
    content = text.encode()
    return len(content) / len(zlib.compress(content)) if content else 0.0


def between_times(heard: Heard, times: Timestamps, text: TextDecoder) -> list[Segment]:
    """One segment for each pair of timestamp tokens; the last one may lack its end, which is then the window's."""
    segments: list[Segment] = []
    start, first = 0.0, 0
    for index, token in enumerate((*heard.tokens, None)):
        time = heard.seconds if token is None else times.seconds(token)
        if time is None:
            continue
        said = text(heard.tokens[first:index])
        if said:
            closing = index if token is None else index + 1
            segments.append(heard.segment(start, time, said, first, min(closing, len(heard.tokens))))
        start, first = time, index
    return segments


def unfinished_from(tokens: Sequence[int], times: Timestamps) -> float | None:
    """Where a text that ends with a pair of times broke off: the model left the rest to another window. Else None."""
    ends = [times.seconds(token) for token in tokens[-2:]]
    return ends[-1] if len(tokens) > 2 and None not in ends else None


def from_words(heard: Heard, words: Sequence[TimedWord], with_words: bool) -> list[Segment]:
    """Sentences: segments end with a mark that ends a sentence, and before a pause."""
    segments: list[Segment] = []
    group: list[TimedWord] = []
    for index, word in enumerate(words):
        group.append(word)
        following = words[index + 1] if index + 1 < len(words) else None
        if following is None or _ends_sentence(word.text) or following.start - word.end > PAUSE:
            said = "".join(one.text for one in group).strip()
            last = len(heard.tokens) if following is None else group[-1].last
            timed = [_word(heard, one) for one in group] if with_words else []
            segments.append(heard.segment(group[0].start, group[-1].end, said, group[0].first, last, timed))
            group = []
    return segments


def whole(heard: Heard) -> list[Segment]:
    """The window as one segment; none without text."""
    return [heard.segment(0.0, heard.seconds, heard.text, 0, len(heard.tokens))] if heard.text else []


def _word(heard: Heard, word: TimedWord) -> Word:
    likely = [math.exp(value) for value in heard.recorded.log_probabilities[word.first : word.last]]
    return Word(word.text.strip(), *heard.in_recording(word.start, word.end), round(mean(likely), 4))


def _ends_sentence(text: str) -> bool:
    said = text.strip().rstrip("\"'\u201d)]}")
    return said.endswith(tuple(SENTENCE_ENDS)) and said.lower() not in ABBREVIATIONS
