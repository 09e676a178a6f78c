"""Short windows: the encoder gets the clip and a margin; what looks wrong is heard again in the full window."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_asr_deploy.errors import Note, UserError
from edge_asr_deploy.runtime.decoding.loops import SIGN
from edge_asr_deploy.runtime.engine import Job
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.transcriber import Transcriber
from tests.support.exported import Exported

Sound = Callable[..., NDArray[np.float32]]
ONE_THREAD = SessionSettings(threads=1)


def with_context(bundle: Path, margin: float = 2) -> Transcriber:
    return Transcriber.open(bundle, ONE_THREAD, audio_context=margin, vad=False)


def test_a_doubtful_text_from_a_short_window_is_replaced_by_the_full_ones(
    free_whisper: Exported, voice: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Transcriber.open(free_whisper.bundle, ONE_THREAD, audio_context="full", vad=False).transcribe(voice(3), "en")
    # The random model never ends: every text is doubtful.
    again = with_context(free_whisper.bundle).transcribe(voice(3), "en")
    assert (again.fallbacks, full.fallbacks) == (1, 0)
    assert again.tokens == full.tokens
    assert again.timings.tokens == 2 * full.timings.tokens, "the first attempt took time, too"
    monkeypatch.setattr("edge_asr_deploy.runtime.attempts.is_doubtful", lambda decoded, text: False)
    short = with_context(free_whisper.bundle).transcribe(voice(3), "en")
    assert short.fallbacks == 0 and short.tokens != full.tokens


def test_a_margin_that_fills_the_window_is_the_full_window(free_whisper: Exported, voice: Sound) -> None:
    full = Transcriber.open(free_whisper.bundle, ONE_THREAD, audio_context="full", vad=False).transcribe(voice(3), "en")
    wide = with_context(free_whisper.bundle, 27).transcribe(voice(3), "en")
    assert (wide.tokens, wide.fallbacks) == (full.tokens, 0)


def test_short_windows_are_what_everyone_gets(
    free_whisper: Exported, voice: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_asr_deploy.runtime.attempts.is_doubtful", lambda decoded, text: False)
    unasked = Transcriber.open(free_whisper.bundle, ONE_THREAD, vad=False).transcribe(voice(3), "en")
    asked, full = (
        Transcriber.open(free_whisper.bundle, ONE_THREAD, audio_context=one, vad=False).transcribe(voice(3), "en")
        for one in ("auto", "full")
    )
    assert unasked.tokens == asked.tokens != full.tokens


def test_a_bundle_of_full_windows_gets_them_with_a_note(whisper: Exported, voice: Sound) -> None:
    with pytest.warns(Note, match="exported before short windows"):
        unasked = Transcriber.open(whisper.bundle, ONE_THREAD, vad=False)
    full = Transcriber.open(whisper.bundle, ONE_THREAD, audio_context="full", vad=False)
    assert unasked.transcribe(voice(3), "en").tokens == full.transcribe(voice(3), "en").tokens


def test_a_loop_in_a_short_window_ends_soon(
    free_whisper: Exported, voice: Sound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 13 equal tokens of 44 the full window is decoded, which is left to itself."""
    size = json.loads((free_whisper.bundle / "config.json").read_text())["vocab_size"]
    only = {"suppress_tokens": [token for token in range(size) if token != 7]}
    bundle = free_whisper.with_generation(tmp_path / "b", **only)
    full = Transcriber.open(bundle, ONE_THREAD, audio_context="full", vad=False).transcribe(voice(3), "en")
    found = Transcriber.open(bundle, ONE_THREAD, vad=False).transcribe(voice(3), "en")
    assert found.tokens == full.tokens and found.fallbacks == 1
    assert found.timings.tokens == full.timings.tokens + SIGN + 1 < 2 * full.timings.tokens


def test_a_bundle_of_full_windows_refuses_less(whisper: Exported) -> None:
    with pytest.raises(UserError, match=r"--audio-context: .*export it again"):
        with_context(whisper.bundle)


def test_moonshine_hears_all_of_any_length_in_any_case(moonshine: Exported, voice: Sound) -> None:
    plain = Transcriber.open(moonshine.bundle, ONE_THREAD, vad=False).transcribe(voice(2))
    short = with_context(moonshine.bundle).transcribe(voice(2))
    assert (plain.tokens, plain.fallbacks) == (short.tokens, 0)


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_a_language_in_doubt_is_heard_in_the_full_window(
    free_whisper: Exported, voice: Sound, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """No probability is in doubt at 0, each one at 1.1."""
    monkeypatch.setattr("edge_asr_deploy.runtime.attempts.is_doubtful", lambda decoded, text: False)
    monkeypatch.setattr("edge_asr_deploy.runtime.engine.SURE_LANGUAGE", share)
    full = Transcriber.open(free_whisper.bundle, ONE_THREAD, audio_context="full", vad=False).transcribe(voice(3))
    found = with_context(free_whisper.bundle).transcribe(voice(3))
    assert (found.tokens == full.tokens) == (share > 1)
    assert found.timings.first_token <= found.timings.total


@pytest.mark.parametrize(("quick", "expected"), [(False, [5, None, 6]), (True, [5, 6])])
def test_a_language_in_doubt_lengthens_the_first_window_alone(
    free_whisper: Exported, voice: Sound, monkeypatch: pytest.MonkeyPatch, quick: bool, expected: list[int | None]
) -> None:
    """Not where a text of speech that goes on is wanted quickly."""
    monkeypatch.setattr("edge_asr_deploy.runtime.attempts.is_doubtful", lambda decoded, text: False)
    monkeypatch.setattr("edge_asr_deploy.runtime.engine.SURE_LANGUAGE", 1.1)
    transcriber = with_context(free_whisper.bundle)
    cut = lengths(transcriber, monkeypatch)
    transcriber.engine.windows(
        [voice(3), voice(4)], Job(transcriber.engine.family.prompt(None, None), 2.0, quick=quick)
    )
    assert cut == expected


def test_only_the_last_text_of_a_stretch_of_live_speech_waits_for_a_full_window(
    free_whisper: Exported, voice: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_asr_deploy.runtime.attempts.is_doubtful", lambda decoded, text: False)
    monkeypatch.setattr("edge_asr_deploy.runtime.engine.SURE_LANGUAGE", 1.1)
    transcriber = with_context(free_whisper.bundle)
    cut, decode = lengths(transcriber, monkeypatch), transcriber.stream()._decode
    decode(voice(3), (), False)
    assert cut == [5]
    decode(voice(3), (), True)
    assert cut == [5, 5, None]


def lengths(transcriber: Transcriber, monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Grows by the seconds that the encoder gets, None for a full window, whenever it gets some."""
    found: list[int | None] = []
    inputs = transcriber.engine.family.inputs

    def recording(samples: NDArray[np.float32], seconds: int | None = None) -> dict[str, NDArray[np.generic]]:
        found.append(seconds)
        return inputs(samples, seconds)

    monkeypatch.setattr(transcriber.engine.family, "inputs", recording)
    return found
