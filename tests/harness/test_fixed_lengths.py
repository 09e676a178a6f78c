"""Clips of fixed lengths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.benchmark.fixed_lengths import fixed_lengths


def utterance(name: str, seconds: float, source: str = "a", declared: float | None = None) -> Utterance:
    samples = np.full(round(seconds * 16_000), float(name), np.float32)
    return Utterance(name, samples, "text", source, seconds=declared)


def test_the_shortest_that_is_long_enough_is_cut() -> None:
    [(clip, record)] = fixed_lengths([utterance("1", 9), utterance("2", 4), utterance("3", 2)], [3])
    assert (clip.id, len(clip.samples()), clip.samples()[0]) == ("3 s", 48_000, 2)
    assert [(piece.id, piece.seconds) for piece in record.pieces] == [("2", 3)]


def test_a_declared_duration_is_not_trusted() -> None:
    [(clip, _)] = fixed_lengths([utterance("1", 1, declared=3.5), utterance("2", 4, declared=4)], [3])
    assert clip.samples()[0] == 2


def test_longer_audio_is_joined_within_the_largest_corpus_in_order_of_ids() -> None:
    speech = [utterance("3", 2, "big"), utterance("1", 1, "big"), utterance("2", 2.5, "small")]
    [(clip, record)] = fixed_lengths(speech, [4])
    assert [(piece.source, piece.id, piece.seconds) for piece in record.pieces] == [
        ("big", "1", 1),
        ("big", "3", 2),
        ("big", "1", 1),
    ]
    assert clip.samples()[[0, 16_000, 48_000, -1]].tolist() == [1, 3, 1, 1]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.floats(0.1, 3), min_size=1, max_size=5),
    st.lists(st.floats(0.1, 10), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_every_length_is_exact_and_the_order_of_the_corpus_does_not_matter(
    durations: list[float], lengths: list[float], random: object
) -> None:
    speech = [utterance(str(number), seconds) for number, seconds in enumerate(durations)]
    shuffled = speech.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    made = fixed_lengths(speech, lengths)
    assert [len(clip.samples()) for clip, _ in made] == [round(length * 16_000) for length in lengths]
    assert [record for _, record in fixed_lengths(shuffled, lengths)] == [record for _, record in made]


def test_speech_without_a_sample_is_refused() -> None:
    with pytest.raises(UserError, match="all of them are empty"):
        fixed_lengths([utterance("1", 0)], [1])
