"""What a model is told before the audio, temperatures, and parts of a recording."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime import attempts
from edge_asr_deploy.runtime.audio.windows import Clip
from edge_asr_deploy.runtime.decoding.decoder import Decoded
from edge_asr_deploy.runtime.decoding.recording import Recorded
from edge_asr_deploy.runtime.decoding.request import Request, parts_of
from edge_asr_deploy.runtime.engine import Job, Window, drawing
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.transcriber import Transcriber
from tests.support.exported import Exported

Sound = Callable[..., NDArray[np.float32]]
ONE_THREAD = SessionSettings(threads=1)


@pytest.fixture
def transcriber(free_whisper: Exported) -> Transcriber:
    """Of 24 positions, so that 11 tokens fit before the audio."""
    return Transcriber.open(free_whisper.bundle, ONE_THREAD, vad=False)


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch, transcriber: Transcriber) -> list[tuple[int | None, ...]]:
    """The prompts of all calls of the engine, in their order."""
    seen: list[tuple[int | None, ...]] = []
    windows = transcriber.engine.windows

    def watched(clips: list[NDArray[np.float32]], job: Job) -> tuple[list[Window], Job]:
        if clips:
            seen.append(job.prompt)
        return windows(clips, job)

    monkeypatch.setattr(transcriber.engine, "windows", watched)
    monkeypatch.setattr(attempts, "is_doubtful", lambda decoded, text: False)
    return seen


def encoded(monkeypatch: pytest.MonkeyPatch, transcriber: Transcriber) -> None:
    """Texts become the numbers in them; the small model's tokenizer has no way to tokens."""
    monkeypatch.setattr(transcriber.engine.family.prompting, "_encoded", lambda text: [int(t) for t in text.split()])


def test_words_to_expect_and_a_prompt_stand_before_every_window(
    transcriber: Transcriber, prompts: list[tuple[int | None, ...]], voice: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded(monkeypatch, transcriber)
    transcriber.transcribe(voice(2), "de", prompt="5 6", hotwords=["9"])
    plain = transcriber.engine.family.prompt("de", None)
    assert prompts == [(302, 9, 5, 6, *plain)]


def test_a_prompt_that_does_not_fit_is_refused_with_how_many_tokens_do(
    transcriber: Transcriber, voice: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded(monkeypatch, transcriber)
    with pytest.raises(UserError, match="has 12 tokens; 11 fit"):
        transcriber.transcribe(voice(2), "de", prompt=" ".join(["7"] * 12))


@pytest.mark.parametrize("asked", [{"prompt": "a"}, {"hotwords": ["a"]}, {"previous_text": True}])
def test_moonshine_takes_no_text_before_the_audio(moonshine: Exported, voice: Sound, asked: dict[str, object]) -> None:
    with pytest.raises(UserError, match="trained without text before the audio; use a Whisper"):
        Transcriber.open(moonshine.bundle, ONE_THREAD).transcribe(voice(1), **asked)  # type: ignore[arg-type]


def test_every_window_is_told_the_text_before_it_unless_that_is_doubtful(
    transcriber: Transcriber, prompts: list[tuple[int | None, ...]], voice: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts.Attempts, "_is_trusted", lambda self, window: True)
    told = transcriber.transcribe(voice(70), "de", previous_text=True)
    assert told.windows == 3 == len(prompts)
    first, second, _ = prompts
    assert first == transcriber.engine.family.prompt("de", None)
    assert second[0] == 302 and second[-4:] == first and 1 <= len(second) - 5 <= 11
    assert " ".join(map(str, second[1:-4])) in " ".join(map(str, told.tokens))
    prompts.clear()
    monkeypatch.setattr(attempts.Attempts, "_is_trusted", lambda self, window: False)
    transcriber.transcribe(voice(70), "de", previous_text=True)
    assert prompts == [first] * 3, "a loop does not feed itself"


def window(probability: float, no_speech: float | None, tokens: tuple[int, ...] = (1, 2)) -> Window:
    recorded = Recorded((probability,) * (len(tokens) + 1), no_speech, {}, {})
    return Window(Decoded(tokens, False, (0.0,), 0.0, recorded), 0, 0, 0, False, 4, 0.0)


def test_another_temperature_follows_an_unlikely_or_repeated_text(transcriber: Transcriber) -> None:
    run = attempts.Attempts(transcriber.engine, None, Request.of(temperature=(0, 0.5)))  # type: ignore[arg-type]
    assert not run._needs_fallback(window(-0.5, 0.1))
    assert run._needs_fallback(window(-1.5, 0.1))
    assert not run._needs_fallback(window(-1.5, 0.7)), "nobody speaks: a hotter model would only invent more"
    assert run._needs_fallback(window(-0.1, 0.1, (7, 8, 9) * 40))


def test_temperatures_are_tried_in_their_order(
    transcriber: Transcriber, voice: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "is_doubtful", lambda decoded, text: False)
    monkeypatch.setattr(attempts.Attempts, "_needs_fallback", lambda self, one: one.temperature < 0.4)
    hot = transcriber.transcribe(voice(2), "de", temperature=(0.0, 0.4, 0.8), timestamps="segment")
    assert {segment.temperature for segment in hot.segments} == {0.4} and hot.fallbacks == 1
    again = transcriber.transcribe(voice(2), "de", temperature=(0.0, 0.4, 0.8))
    assert again.tokens == hot.tokens, "drawn with a fixed seed"


def test_tokens_are_drawn_by_their_probability() -> None:
    scores = np.log(np.array([[0.7, 0.2, 0.1]], np.float32))
    choose = drawing(1.0)
    drawn = np.bincount([int(choose(scores)[0]) for _ in range(4000)], minlength=3) / 4000
    np.testing.assert_allclose(drawn, [0.7, 0.2, 0.1], atol=0.03)
    cold = drawing(0.1)
    assert all(int(cold(scores)[0]) == 0 for _ in range(100))


def test_a_window_without_speech_and_with_an_unlikely_text_is_left_out_where_times_are_asked_for(
    transcriber: Transcriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = Clip(np.zeros(16_000, np.float32), ((0, 0),))
    found = [window(-0.5, 0.9), window(-2.0, 0.9), window(-2.0, 0.1)]
    for request, left in ((Request.of(timestamps="segment"), 2), (Request.of(), 3)):
        run = attempts.Attempts(transcriber.engine, None, request)  # type: ignore[arg-type]
        monkeypatch.setattr(run, "_run", lambda clips, job: ([(clip, one) for one in found], job))
        assert len(run.run([clip] * 3, Job((1,), None))[0]) == left


def test_parts_of_a_recording_keep_their_times(free_whisper: Exported, voice: Sound) -> None:
    transcriber = Transcriber.open(free_whisper.bundle, ONE_THREAD, vad=False)
    whole = voice(20)
    part = transcriber.transcribe(whole, "de", timestamps="segment", clip_timestamps=(4, 9))
    alone = transcriber.transcribe(whole[4 * 16_000 : 9 * 16_000], "de", timestamps="segment")
    assert part.tokens == alone.tokens and part.seconds == 20
    np.testing.assert_allclose([(one.start - 4, one.end - 4) for one in part.segments],
                               [(one.start, one.end) for one in alone.segments], atol=1e-3)  # fmt: skip


@pytest.mark.parametrize("times", [(1, 1), (2, 1), (-1, 2), (float("nan"), 2)])
def test_parts_that_are_none_are_refused(times: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="--clip-timestamps"):
        Request.of(clip_timestamps=times)


def test_the_last_part_may_lack_its_end() -> None:
    assert parts_of(10 * 16_000, Request.of(clip_timestamps=(1, 2, 8)).ranges) == [(16_000, 32_000), (128_000, 160_000)]
    assert parts_of(16_000, Request.of(clip_timestamps=(5, 9)).ranges) == [], "behind the end of the audio"
    assert parts_of(16_000, ()) == [(0, 16_000)]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"timestamps": "letter"}, "segment, word"),
        ({"beam_size": 5}, "only the best token"),
        ({"temperature": (0, 2)}, "from 0 to 1"),
        ({"temperature": ()}, "from 0 to 1"),
    ],
)
def test_what_means_nothing_is_refused(asked: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Request.of(**asked)  # type: ignore[arg-type]
