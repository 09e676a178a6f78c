"""When things were said: the path through the attention, words, pauses, segments; against slow references."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import moonshine as moonshine_facts
from edge_asr_deploy.families import whisper as whisper_facts
from edge_asr_deploy.runtime.audio.windows import Clip
from edge_asr_deploy.runtime.decoding.decoder import Decoded
from edge_asr_deploy.runtime.decoding.recording import Recorded, Wanted, log_probability
from edge_asr_deploy.runtime.decoding.text import TextDecoder
from edge_asr_deploy.runtime.decoding.timestamps import Timestamps
from edge_asr_deploy.runtime.engine import Job
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.times.alignment import path_starts, smooth
from edge_asr_deploy.runtime.times.pauses import outside_pauses, pauses
from edge_asr_deploy.runtime.times.segments import Heard, between_times, from_words, unfinished_from
from edge_asr_deploy.runtime.times.words import TimedWord, timed_words
from edge_asr_deploy.runtime.transcriber import Transcriber
from tests.support.exported import Exported

Sound = Callable[..., NDArray[np.float32]]
ONE_THREAD = SessionSettings(threads=1)


def slow_path(cost: NDArray[np.float32]) -> list[int]:
    """The table of openai/whisper's `dtw_cpu`, cell by cell: where each row of the best path begins."""
    rows, columns = cost.shape
    sums = np.full((rows + 1, columns + 1), np.inf)
    sums[0, 0] = 0
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            sums[i, j] = cost[i - 1, j - 1] + min(sums[i - 1, j - 1], sums[i - 1, j], sums[i, j - 1])
    starts, i, j = [0] * rows, rows, columns
    while (i, j) != (0, 0):
        starts[i - 1] = j - 1
        steps = [(sums[i, j - 1], (i, j - 1)), (sums[i - 1, j], (i - 1, j)), (sums[i - 1, j - 1], (i - 1, j - 1))]
        i, j = min(steps, key=lambda step: step[0])[1]
        i, j = (i, j) if min(i, j) > 0 else (0, 0)
    return starts


@pytest.mark.parametrize("seed", range(30))
def test_the_path_is_that_of_dynamic_time_warping(seed: int) -> None:
    generator = np.random.default_rng(seed)
    cost = generator.normal(size=(generator.integers(1, 12), generator.integers(12, 40))).astype(np.float32)
    assert path_starts(cost).tolist() == slow_path(cost)


@pytest.mark.parametrize("length", [4, 5, 50])
def test_the_filter_is_a_median_of_seven(length: int) -> None:
    values = np.random.default_rng(length).normal(size=(3, length)).astype(np.float32)
    padded = np.pad(values, ((0, 0), (3, 3)), mode="reflect")
    wanted = np.median(np.lib.stride_tricks.sliding_window_view(padded, 7, axis=1), axis=2)
    np.testing.assert_array_equal(smooth(values), wanted)
    assert smooth(values[:, :3]) is not None and np.array_equal(smooth(values[:, :3]), values[:, :3])


def test_the_queries_and_keys_give_pytorchs_attention(free_whisper: Exported, voice: Sound) -> None:
    torch = pytest.importorskip("torch")
    engine = Transcriber.open(free_whisper.bundle, ONE_THREAD, audio_context="full").engine
    layers = tuple(sorted(engine.decoder.layers_with_queries))
    job = Job(engine.family.prompt("en", None), None, wanted=Wanted(layers, None))
    # Of two rows, the one that is looked at is not the first.
    windows, found = engine.windows([voice(1, 1), voice(2)], job)
    decoded = windows[1].decoded
    assert decoded.recorded is not None
    features = torch.from_numpy(engine.family.inputs(voice(2))["input_features"])
    fed = torch.tensor([[*(token for token in found.prompt if token is not None), *decoded.tokens[:-1]]])
    free_whisper.model.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = free_whisper.model(features, decoder_input_ids=fed, output_attentions=True).cross_attentions
    assert layers == tuple(range(len(attentions)))
    for layer, wanted in enumerate(attentions):
        scores = decoded.recorded.queries[layer] @ decoded.recorded.keys[layer]
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(weights[:, : fed.shape[1]], wanted[0].numpy(), atol=1e-4)


def test_log_probabilities_are_those_of_all_tokens() -> None:
    scores = (np.random.default_rng(0).normal(size=51_864) * 4).astype(np.float32)
    exact = scores.astype(np.float64) - np.log(np.exp(scores.astype(np.float64)).sum())
    for token in (int(scores.argmax()), 7):
        assert log_probability(scores, token) == pytest.approx(exact[token], abs=0.006)
    assert log_probability(scores, int(scores.argmax()), True) == log_probability(scores, int(scores.argmax()))


def test_words_take_their_punctuation() -> None:
    pieces = [(" Mr", 1), (".", 1), (" O'", 1), ("Neil", 1), (" said", 1), (' "', 1), ("yes", 1), ('."', 1)]
    words = timed_words(pieces, np.arange(9.0) / 10, "en")
    assert [(word.text, word.start, word.first, word.last) for word in words] == [
        (" Mr.", 0.0, 0, 2),
        (" O'Neil", 0.2, 2, 4),
        (" said", 0.4, 4, 5),
        (' "yes."', 0.5, 5, 8),
    ]


def test_languages_without_spaces_have_characters_for_words() -> None:
    words = timed_words([("日", 1), ("本", 2), ("。", 1)], np.arange(5.0), "ja")
    assert [(word.text, word.start, word.end) for word in words] == [("日", 0, 1), ("本。", 1, 3)]


def test_a_pause_before_a_sentence_belongs_to_no_word() -> None:
    pieces = [(" one", 1), (" two", 1), (".", 1), (" Three", 1), (" four", 1)]
    words = timed_words(pieces, np.array([0, 0.3, 0.6, 0.7, 4.0, 4.3]), None)
    assert [(word.start, word.end) for word in words] == [(0, 0.3), (0.3, 0.6), (pytest.approx(3.4), 4.0), (4.0, 4.3)]


def test_pauses_are_found_and_words_end_at_them() -> None:
    generator = np.random.default_rng(0)
    samples = generator.normal(size=3 * 16_000).astype(np.float32) * 1e-4
    samples[:16_000] += generator.normal(size=16_000).astype(np.float32) * 0.1
    samples[32_000:] += generator.normal(size=16_000).astype(np.float32) * 0.1
    found = pauses(samples)
    np.testing.assert_allclose(found, [[1, 2]], atol=0.03)
    early, late = TimedWord(" one", 0.5, 1.3, 0, 1), TimedWord(" two", 1.3, 2.6, 1, 2)
    first, second = outside_pauses([early, late], found)
    np.testing.assert_allclose((first.start, first.end, second.start, second.end), (0.5, 1, 2, 2.6), atol=0.03)
    # The alignment is late: most of the second word lies behind the pause, and the part before it is the first's.
    first, second = outside_pauses([TimedWord(" a", 0.5, 0.9, 0, 1), TimedWord(" b", 0.9, 2.6, 1, 2)], found)
    np.testing.assert_allclose((first.end, second.start), (1, 2), atol=0.03)
    assert pauses(samples[:100]).shape == (0, 2) and pauses(np.zeros(1600, np.float32)).shape[1] == 2


TIMES = Timestamps(first=100, end=50, never=99)


def rules(tokens: list[int], text: float = 0.0, seconds: float = 10.0, token: int = 3) -> set[int]:
    """What may follow: indices of tokens, where one token is so much more likely than all else."""
    scores = np.zeros(100 + 1501, np.float32)
    scores[token] = text
    TIMES.restrict(scores, tokens, seconds)
    return set(np.flatnonzero(scores > -np.inf).tolist())


def test_a_text_begins_with_a_time_within_a_second() -> None:
    assert rules([]) == set(range(100, 151))
    assert rules([], seconds=0.5) == set(range(100, 126))


def test_times_come_in_pairs_that_do_not_decrease() -> None:
    likely = 20.0
    assert rules([110], likely) == set(range(99)), "text follows the begin of a segment"
    assert rules([110, 3], likely) == {*range(99), *range(111, 601)}, "no segment is empty"
    assert rules([110, 3, 130], likely, token=50) == {*range(50, 99), *range(130, 601)}, "a time, or the end"
    assert rules([110, 3, 130, 130], likely) == set(range(99))
    assert rules([110, 3]) == set(range(111, 601)), "all times together are more likely than any text"


class Words(TextDecoder):
    """Token 7 is `w7`."""

    def __init__(self) -> None: ...

    def __call__(self, tokens: object) -> str:
        return " ".join(f"w{token}" for token in tokens if token < 50)  # type: ignore[attr-defined]


def heard(tokens: tuple[int, ...], clip: Clip) -> Heard:
    recorded = Recorded(tuple(-float(place) for place in range(len(tokens) + 1)), 0.25, {}, {})
    decoded = Decoded(tokens, False, (0.0,) * (len(tokens) + 1), 0.0, recorded)
    return Heard(clip, decoded, tokens, Words()(tokens), 1)


def test_segments_lie_between_times_and_map_to_the_recording() -> None:
    # Four seconds: the first two from second 10 on, the others from second 20 on.
    clip = Clip(np.zeros(64_000, np.float32), ((0, 160_000), (32_000, 320_000)))
    first, second = between_times(heard((100, 1, 2, 200, 225, 3), clip), TIMES, Words())
    assert (first.start, first.end, first.text, first.tokens) == (10.0, 12.0, "w1 w2", (100, 1, 2, 200))
    assert (second.start, second.end, second.text) == (20.5, 22.0, "w3"), "the last one ends with the window"
    assert (first.average_log_probability, second.average_log_probability) == (-1.5, -5.0)
    assert first.no_speech_probability == 0.25 and first.temperature == 0


def test_a_text_that_ends_with_a_pair_of_times_left_the_rest_to_another_window() -> None:
    assert unfinished_from((100, 1, 200, 200), TIMES) == 2.0
    assert unfinished_from((100, 1, 200), TIMES) is None and unfinished_from((100, 1), TIMES) is None
    clip = Clip(np.arange(64_000, dtype=np.float32), ((0, 160_000), (32_000, 320_000)))
    rest = clip.after(40_000)
    assert rest.samples[0] == 40_000 and rest.pieces == ((0, 328_000),)
    assert clip.after(16_000).pieces == ((0, 176_000), (16_000, 320_000))


def test_sentences_and_pauses_part_words() -> None:
    texts = [" Mr.", " One", " two.", " Three", " four"]
    words = [TimedWord(text, start, start + 0.5, place, place + 1) for place, (text, start) in
             enumerate(zip(texts, (0, 0.5, 1, 1.5, 3.5), strict=True))]  # fmt: skip
    found = from_words(heard((1, 2, 3, 4, 5), Clip(np.zeros(64_000, np.float32), ((0, 0),))), words, True)
    assert [segment.text for segment in found] == ["Mr. One two.", "Three", "four"]
    assert [(segment.start, segment.end) for segment in found] == [(0, 1.5), (1.5, 2), (3.5, 4)]
    assert [[word.text for word in segment.words] for segment in found] == [["Mr.", "One", "two."], ["Three"], ["four"]]
    assert found[0].words[0].probability == 1.0 and found[0].average_log_probability == -1.0


def test_an_old_bundle_has_segments_by_tokens_but_no_words(whisper: Exported, voice: Sound) -> None:
    transcriber = Transcriber.open(whisper.bundle, ONE_THREAD)
    with pytest.raises(UserError, match="exported before word times; export it again"):
        transcriber.transcribe(voice(2), "en", timestamps="word")
    segments = transcriber.transcribe(voice(2), "en", timestamps="segment").segments
    assert all(0 <= segment.start <= segment.end <= 2 for segment in segments)


def test_times_leave_text_and_tokens_as_they_are(free_whisper: Exported, voice: Sound) -> None:
    transcriber = Transcriber.open(free_whisper.bundle, ONE_THREAD, vad=False)
    plain = transcriber.transcribe(voice(45), "de")
    for kind in ("segment", "word"):
        timed = transcriber.transcribe(voice(45), "de", timestamps=kind)
        assert (timed.text, timed.tokens, timed.language) == (plain.text, plain.tokens, "de")
        assert "".join(segment.text for segment in timed.segments).split()
        assert all(bool(segment.words) == (kind == "word") for segment in timed.segments)
        times = [time for segment in timed.segments for time in (segment.start, segment.end)]
        assert times == sorted(times) and times[0] >= 0 and times[-1] <= 45
    assert plain.segments == ()


def test_known_sizes_have_heads_and_others_the_last_half() -> None:
    tiny = whisper_facts.PUBLISHED[4, 6, False]
    assert whisper_facts.alignment(4, 6, False, tiny) == whisper_facts.alignment(4, 6, False)
    assert whisper_facts.alignment(4, 6, False, ((0, 1),)).heads == ((0, 1),), "a fine-tune's own heads count"
    assert whisper_facts.alignment(4, 6, True).heads == whisper_facts.PUBLISHED[4, 6, True]
    assert moonshine_facts.alignment(2, 2).heads == ((1, 0), (1, 1))
