"""Streams: text while somebody speaks, in pieces of any size; what is stable stays, and silence says nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_asr_deploy.errors import Stopped, UserError
from edge_asr_deploy.runtime.live.agreement import stable_tokens
from edge_asr_deploy.runtime.live.events import Event, Final, Partial, SpeechStarted
from edge_asr_deploy.runtime.live.stream import MATURE, Stream
from edge_asr_deploy.runtime.transcriber import Transcriber
from edge_asr_deploy.runtime.transcript import Segment
from edge_asr_deploy.runtime.voice import VoiceDetector
from tests.support.exported import export
from tests.support.voice import voice as voiced

Sound = Callable[..., NDArray[np.float32]]
RATE = 16_000


def spelled(tokens: Sequence[int]) -> str:
    return " ".join(f"word{token}" for token in tokens)


class Counting:
    """Decodes each half second of samples as the next number, and the last, unfinished one as another word."""

    language = None

    def __init__(self) -> None:
        self.longest = self.first = 0.0
        self.lasts = self.number = 0

    def __call__(self, samples: NDArray[np.float32], said: tuple[int, ...], last: bool) -> Segment:
        seconds = len(samples) / RATE
        self.longest, self.first = max(self.longest, seconds), self.first or seconds
        self.number += 1
        self.lasts += last
        tokens = (*range(int(2 * seconds)), *(() if last else (1000 + len(samples),)))
        assert tokens[: len(said)] == said
        return Segment(0.0, seconds, spelled(tokens), tokens, 0.0, None, 1.0, 0.0)


@pytest.fixture(scope="module")
def detector() -> VoiceDetector:
    return VoiceDetector.open()


def events_of(stream: Stream, sound: NDArray[np.float32], size: int) -> list[Event]:
    pushed = [event for index in range(0, len(sound), size) for event in stream.push(sound[index : index + size])]
    return [*pushed, *stream.finish()]


def finals(events: list[Event]) -> list[tuple[float, float, str]]:
    return [
        (event.segment.start, event.segment.end, event.segment.text) for event in events if isinstance(event, Final)
    ]


TWO = np.concatenate([np.zeros(RATE, np.float32), voiced(3), np.zeros(2 * RATE, np.float32), voiced(2, 1)])


def test_each_stretch_of_speech_is_final_once_with_its_times(detector: VoiceDetector) -> None:
    events = events_of(Stream(Counting(), spelled, detector), TWO, 1600)
    started = [event.time for event in events if isinstance(event, SpeechStarted)]
    assert started == pytest.approx([1, 6], abs=0.3)
    (first_start, first_end, _), (second_start, second_end, _) = finals(events)
    assert (first_start, second_start) == tuple(started)
    assert (first_end, second_end) == (pytest.approx(4, abs=0.3), pytest.approx(8, abs=0.3))


@settings(deadline=None, max_examples=8)
@given(size=st.integers(1, 40_000))
def test_the_size_of_the_pieces_changes_no_final_text(size: int) -> None:
    detector = VoiceDetector.open()
    expected = finals(events_of(Stream(Counting(), spelled, detector), TWO, 512))
    size = max(size, 100)  # a push of one sample each takes a minute
    assert finals(events_of(Stream(Counting(), spelled, detector), TWO, size)) == expected


def test_what_is_stable_stays(detector: VoiceDetector) -> None:
    stable, partials, longest = "", 0, 0
    for event in events_of(Stream(Counting(), spelled, detector), TWO, 1600):
        if isinstance(event, Partial):
            partials += 1
            assert event.text.startswith(event.stable) and event.stable.startswith(stable)
            stable = event.stable
        elif isinstance(event, Final):
            assert event.segment.text.startswith(stable)
            longest, stable = max(longest, len(stable)), ""
    assert partials >= 5 and longest


def test_speech_without_a_pause_is_cut_before_a_window_is_full(detector: VoiceDetector) -> None:
    decode = Counting()
    events = events_of(Stream(decode, spelled, detector), voiced(70), 4096)
    assert len(finals(events)) >= 3 and decode.longest < 29


def test_silence_and_noise_say_nothing(detector: VoiceDetector, noise: Sound) -> None:
    decode = Counting()
    sound = np.concatenate([np.zeros(5 * RATE, np.float32), noise(5)])
    assert events_of(Stream(decode, spelled, detector), sound, 1600) == []
    assert decode.longest == 0


def test_a_pause_is_decoded_before_it_is_the_end(detector: VoiceDetector) -> None:
    # So that no time is lost once it is: the last decoding does not come with the final event.
    decode, stream = Counting(), None
    stream = Stream(decode, spelled, detector)
    for index in range(0, len(TWO), 512):
        before = decode.lasts
        if any(isinstance(event, Final) for event in stream.push(TWO[index : index + 512])):
            assert decode.lasts == before > 0


def test_where_only_stable_text_counts_nothing_is_decoded_before_it_can_be(detector: VoiceDetector) -> None:
    decode = Counting()
    events = events_of(Stream(decode, spelled, detector, only_stable=True), voiced(6), 512)
    partials = [event for event in events if isinstance(event, Partial)]
    assert decode.first == pytest.approx(MATURE, abs=0.1) and any(event.stable for event in partials)
    everything = Counting()
    events_of(Stream(everything, spelled, detector), voiced(6), 512)
    assert everything.first < 1 and everything.number > decode.number


def test_in_a_hurry_only_final_texts_are_decoded(detector: VoiceDetector) -> None:
    decode = Counting()
    events = events_of(Stream(decode, spelled, detector, hurry=lambda: True), TWO, 512)
    assert [type(event) for event in events] == [SpeechStarted, Final] * 2 and decode.number == decode.lasts == 2


def test_a_partial_text_that_was_given_up_comes_later(detector: VoiceDetector) -> None:
    class Stopping(Counting):
        given_up = 0

        def __call__(self, samples: NDArray[np.float32], said: tuple[int, ...], last: bool) -> Segment:
            if not last and self.given_up < 3:
                self.given_up += 1
                raise Stopped
            return super().__call__(samples, said, last)

    decode = Stopping()
    events = events_of(Stream(decode, spelled, detector), TWO, 512)
    assert decode.given_up == 3 and any(isinstance(event, Partial) for event in events)
    assert finals(events) == finals(events_of(Stream(Counting(), spelled, detector), TWO, 512))


def test_a_stream_is_ready_within_a_pause(detector: VoiceDetector) -> None:
    stream, found = Stream(Counting(), spelled, detector), []
    for index in range(0, len(TWO), 512):
        ended = any(isinstance(event, Final) for event in stream.push(TWO[index : index + 512]))
        found.append(stream.is_ready)
        assert not (ended and stream.is_ready)
    seconds = [index * 512 / RATE for index, ready in enumerate(found) if ready]
    assert 4 < min(seconds) < 4.6 and len(seconds) * 512 / RATE < 0.8


def test_a_finished_stream_takes_no_more(detector: VoiceDetector) -> None:
    stream = Stream(Counting(), spelled, detector)
    assert stream.finish() == []
    with pytest.raises(UserError, match="finished"):
        stream.push(np.zeros(10, np.float32))


@pytest.mark.parametrize(
    ("before", "now", "stable"),
    [
        ("a quick brown", "a quick brow nie", "a"),
        ("a quick", "a quick brown fox", ""),
        ("", "a", ""),
        ("other words", "a quick brown", ""),
        ("a quick brown fox", "a quick brown fox jumps", "a quick"),
    ],
)
def test_words_that_two_decodings_agree_on_are_stable_but_the_last_two(before: str, now: str, stable: str) -> None:
    def text(tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens)).strip()

    assert text(stable_tokens(list(map(ord, before)), list(map(ord, now)), 0, text)) == stable


def test_texts_without_spaces_agree_by_letters() -> None:
    def text(tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))

    found = stable_tokens(list(map(ord, "今日は良い天気")), list(map(ord, "今日は良い天気ですね")), 0, text)
    assert text(found) == "今日は良"


@pytest.mark.parametrize("family", ["whisper", "moonshine"])
def test_a_bundle_says_at_the_end_what_it_says_of_the_whole(family: str, voice: Sound, tmp_path: Path) -> None:
    transcriber = Transcriber.open(export(family, tmp_path, sure=True).bundle, audio_context="full")
    [final] = [event for event in events_of(transcriber.stream(), voice(3), 3 * RATE) if isinstance(event, Final)]
    assert final.segment.tokens == transcriber.transcribe(voice(3)).tokens
    assert final.segment.text


def test_a_stream_takes_prompts_and_refuses_what_the_model_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcriber = Transcriber.open(export("whisper", tmp_path, sure=True).bundle, audio_context="full")
    # The small model's tokenizer has no way to tokens.
    monkeypatch.setattr(transcriber.engine.family.prompting, "_encoded", lambda text: [int(t) for t in text.split()])
    plain, prompted = transcriber.stream("en"), transcriber.stream("en", prompt="5 6", hotwords=["9"])
    texts = [finals(events_of(stream, voiced(2), 512))[0][2] for stream in (plain, prompted)]
    assert texts[0] != texts[1] and prompted.language == "en"
    with pytest.raises(UserError, match="language"):
        transcriber.stream("fr")
    with pytest.raises(UserError, match="fit: shorten it"):
        transcriber.stream("en", prompt="5 " * 100)


def test_what_is_stable_holds_its_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transcriber = Transcriber.open(export("whisper", tmp_path, sure=True).bundle, audio_context="full")
    stream = transcriber.stream()
    decode, detected = stream._decode, []
    detect = transcriber.engine._detect
    monkeypatch.setattr(transcriber.engine, "_detect", lambda *given: detected.append(1) or detect(*given))
    segment = decode(voiced(2), (), False)
    assert detected == [1] and stream.language in ("en", "de")
    assert decode(voiced(3), segment.tokens[:2], True).tokens[:2] == segment.tokens[:2]
    assert detected == [1], "it was detected again"
    decode(voiced(3), (), False)
    assert detected == [1, 1]
