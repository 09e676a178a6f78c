"""What a transcription gives: text, times, and how sure the model was."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timings:
    """Times in seconds, summed over all windows.

    `first_token` covers the decoder calls up to the first token (prompt, cross-attention keys and values, language
    detection), `per_token` has every later call, and `decoder` covers all calls. `tokens` counts the tokens of all
    calls, including end tokens. `total` is the time of the whole call of `transcribe`.
    """

    features: float
    encoder: float
    first_token: float
    decoder: float
    tokens: int
    per_token: tuple[float, ...]
    total: float


@dataclass(frozen=True)
class Word:
    """A word with its punctuation, when it was said (in seconds of the recording), and how likely its tokens are."""

    text: str
    start: float
    end: float
    probability: float


@dataclass(frozen=True)
class Segment:
    """A stretch of speech with its text; `start` and `end` in seconds of the recording.

    `average_log_probability` is the mean over the segment's tokens and its end, `no_speech_probability` that of its
    window (None where the family has no token for it). `compression_ratio` and `temperature` are openai/whisper's.
    `words` is empty unless word times were asked for.
    """

    start: float
    end: float
    text: str
    tokens: tuple[int, ...]
    average_log_probability: float
    no_speech_probability: float | None
    compression_ratio: float
    temperature: float
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class Transcript:
    """The text of some audio. `tokens` are without prompt and end tokens; `seconds` is the length of the audio.

    `hit_length_cap` is True if decoding of a window ended only at the token limit, mostly in a repetition loop. `loops`
    counts the windows that ended in such a loop: `text` has the repeated phrase once, `tokens` has all repetitions.
    `fallbacks` counts the windows that were transcribed again with full context, because the shorter audio context gave
    a doubtful text. `timings` include both attempts. `segments` are there if times were asked for. `language` is the
    code of the language that was given or detected.
    """

    text: str
    tokens: tuple[int, ...]
    seconds: float
    windows: int
    hit_length_cap: bool
    timings: Timings
    fallbacks: int = 0
    loops: int = 0
    segments: tuple[Segment, ...] = ()
    language: str | None = None
