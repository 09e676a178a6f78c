"""Voice activity: sounds without speech get no text, pauses cost no windows, and no speech is lost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_asr_deploy.runtime.audio.spans import CHUNK, Span, merged, spans
from edge_asr_deploy.runtime.audio.windows import AROUND, cut_speech
from edge_asr_deploy.runtime.voice import LOUD, TRIED, WORTH, Memory, VoiceDetector, loudest

Sound = Callable[..., NDArray[np.float32]]
RATE = 16_000


@pytest.fixture(scope="module")
def detector() -> VoiceDetector:
    return VoiceDetector.open()


@pytest.mark.parametrize("seed", range(5))
def test_a_voice_is_told_from_noise(detector: VoiceDetector, voice: Sound, noise: Sound, seed: int) -> None:
    assert detector.has_speech(voice(0.5, seed))
    assert not detector.has_speech(noise(5, seed))


def test_a_tone_and_a_hum_are_no_speech(detector: VoiceDetector) -> None:
    time = np.arange(5 * RATE) / RATE
    for frequency in (50, 440):
        assert not detector.has_speech((0.3 * np.sin(2 * np.pi * frequency * time)).astype(np.float32))


def test_speech_is_found_where_it_is_loudest(detector: VoiceDetector, voice: Sound, noise: Sound) -> None:
    sound = np.concatenate([noise(6) * 0.01, voice(2)])
    assert _heard(detector, sound) <= TRIED


def test_speech_beside_something_louder_is_found(detector: VoiceDetector, voice: Sound) -> None:
    time = np.arange(RATE) / RATE
    tone = (0.9 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    assert detector.has_speech(np.concatenate([voice(2) * 0.2, tone]))


def _heard(detector: VoiceDetector, sound: NDArray[np.float32]) -> int:
    """How many chunks it listened to, until it said that there is speech."""
    heard = []

    class Counting(VoiceDetector):
        def step(self, memory: Memory, chunks: NDArray[np.float32]) -> NDArray[np.float32]:
            heard.append(len(chunks))
            return detector.step(memory, chunks)

    assert Counting(detector._session).has_speech(sound)
    return len(heard)


@pytest.mark.parametrize("number", [0, 1, LOUD, LOUD + 1, 40])
def test_the_loudest_part_is_that_with_the_most_energy(number: int) -> None:
    chunks = np.random.default_rng(number).normal(size=(number, CHUNK)).astype(np.float32)
    energies = [np.square(chunks[start : start + LOUD]).sum() for start in range(max(1, number - LOUD + 1))]
    assert loudest(chunks) == int(np.argmax(energies))


def test_the_pause_between_two_voices_is_found(detector: VoiceDetector, voice: Sound, noise: Sound) -> None:
    sound = np.concatenate([noise(2) * 0.01, voice(3), noise(4) * 0.01, voice(2)])
    first, second = merged(detector.spans(sound), RATE)
    assert first.start / RATE == pytest.approx(2, abs=0.3) and first.end / RATE == pytest.approx(5, abs=0.3)
    assert second.start / RATE == pytest.approx(9, abs=0.3) and second.end / RATE == pytest.approx(11, abs=0.3)


def test_a_long_recording_is_heard_as_in_one_go(detector: VoiceDetector, voice: Sound, noise: Sound) -> None:
    sound = np.concatenate([part for seed in range(8) for part in (voice(4, seed), 0.01 * noise(4, seed))])
    assert len(sound) > 2 * WORTH * CHUNK
    memory = detector.start()
    one_by_one = np.array([detector.step(memory, chunk[None])[0] for chunk in sound.reshape(-1, CHUNK)])
    expected, found = merged(spans(one_by_one), RATE), merged(detector.spans(sound), RATE)
    assert len(found) == len(expected) == 8
    for one, other in zip(found, expected, strict=True):
        assert abs(one.start - other.start) < 1.5 * RATE and abs(one.end - other.end) < 1.5 * RATE


def test_one_loud_chunk_is_no_speech() -> None:
    assert spans(np.array([0, 0.9, 0, 0.9, 0.4, 0.1], np.float32)) == []
    assert spans(np.array([0, 0.9, 0.9, 0.4, 0.1], np.float32)) == [Span(CHUNK, 4 * CHUNK)]


PARTS = st.lists(st.tuples(st.integers(1, 60 * RATE), st.integers(1, 60 * RATE)), max_size=5)


@settings(deadline=None)
@example(parts=[(1, 8027), (16016, 28)], join=False)
@given(parts=PARTS, join=st.booleans())
def test_windows_hold_all_speech_in_order(parts: list[tuple[int, int]], join: bool) -> None:
    found, end = [], 0
    for pause, length in parts:
        found.append(Span(end + pause, end + pause + length))
        end = found[-1].end
    samples = np.arange(end + RATE, dtype=np.float32)  # every sample says where it was
    windows = cut_speech(samples, 30, found, join)
    assert all(0 < len(window.samples) <= 30 * RATE for window in windows)
    kept = np.concatenate([window.samples for window in windows]) if windows else np.zeros(0)
    assert (np.diff(kept) > 0).all()
    assert all(np.isin([span.start, span.end - 1], kept).all() for span in found)
    for window in windows:
        for index in (0, len(window.samples) // 2, len(window.samples) - 1):
            assert window.time(index / RATE) == pytest.approx(window.samples[index] / RATE, abs=1e-3)


def test_a_long_pause_parts_windows_unless_a_window_costs_the_same_however_full() -> None:
    samples, found = np.zeros(20 * RATE, np.float32), [Span(RATE, 3 * RATE), Span(9 * RATE, 12 * RATE)]
    assert [len(window.samples) / RATE for window in cut_speech(samples, 30, found, False)] == [
        2 + 2 * AROUND,
        3 + 2 * AROUND,
    ]
    [joined] = cut_speech(samples, 30, found, True)
    assert len(joined.samples) / RATE == 5 + 4 * AROUND
