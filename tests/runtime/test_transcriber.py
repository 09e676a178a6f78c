"""A bundle says what Transformers' greedy `generate` says, token by token."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import TypeAdapter

from edge_asr_deploy.errors import Stopped, UserError
from edge_asr_deploy.runtime.decoding.decoder import Decoder
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.transcriber import Transcriber
from edge_asr_deploy.runtime.transcript import Timings, Transcript
from tests.support.exported import Exported, write_bundle

Sound = Callable[..., NDArray[np.float32]]
ONE_THREAD = SessionSettings(threads=1)


def generated(exported: Exported, samples: NDArray[np.float32], **options: Any) -> list[int]:
    """Transformers' tokens, prompt and end included."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    if exported.model.config.model_type == "whisper":
        extractor = transformers.WhisperFeatureExtractor()
        inputs = dict(extractor(samples, sampling_rate=16_000, return_tensors="pt"))
    else:
        inputs = {
            "input_values": torch.from_numpy(samples[None]),
            "max_new_tokens": int(len(samples) * 6.5 / 16_000) + 2,
        }
    tokens: list[int] = exported.model.generate(**inputs, num_beams=1, do_sample=False, **options)[0].tolist()
    return tokens


def expected_tokens(exported: Exported, samples: NDArray[np.float32], **options: Any) -> list[int]:
    """As `generated`, without the prompt that Whisper's `generate` leaves out in any case, and without the end."""
    tokens = generated(exported, samples, **options)
    if exported.model.config.model_type == "moonshine":
        tokens = tokens[1:]
    return [token for token in tokens if token != exported.model.generation_config.eos_token_id]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("language", ["en", "de"])
def test_whisper_says_what_transformers_says(whisper: Exported, noise: Sound, language: str, seed: int) -> None:
    sound = noise(2 + seed, seed)
    transcript = Transcriber.open(whisper.bundle, ONE_THREAD, vad=False).transcribe(sound, language, "translate")
    assert [*transcript.tokens] == expected_tokens(whisper, sound, language=language, task="translate")
    assert len(set(transcript.tokens)) > 3


@pytest.mark.parametrize("seed", range(4))
def test_moonshine_says_what_transformers_says(moonshine: Exported, noise: Sound, seed: int) -> None:
    sound = noise(2 + seed / 2, seed)
    transcript = Transcriber.open(moonshine.bundle, ONE_THREAD, vad=False).transcribe(sound)
    assert [*transcript.tokens] == expected_tokens(moonshine, sound)
    assert len(set(transcript.tokens)) > 3


def test_the_language_is_detected_as_transformers_does(whisper: Exported, noise: Sound) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    transcriber = Transcriber.open(whisper.bundle, ONE_THREAD, vad=False)
    for seed in range(4):
        sound = noise(1, seed) * np.float32(0.1**seed)
        features = transformers.WhisperFeatureExtractor()(sound, sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            token = int(whisper.model.detect_language(features.input_features)[0])
        language = {300: "en", 301: "de"}[token]
        assert transcriber.transcribe(sound).tokens == transcriber.transcribe(sound, language).tokens
    other = ({"en", "de"} - {language}).pop()
    assert transcriber.transcribe(sound).tokens != transcriber.transcribe(sound, other).tokens


def test_suppressed_tokens_are_passed_over(whisper: Exported, voice: Sound, tmp_path: Path) -> None:
    sound = voice(2)
    free = Transcriber.open(whisper.bundle, ONE_THREAD, vad=False).transcribe(sound, "en").tokens
    never = next(token for token in free if token != free[0])
    bundle = whisper.with_generation(tmp_path / "b", suppress_tokens=[never], begin_suppress_tokens=[free[0]])
    tokens = Transcriber.open(bundle, ONE_THREAD, vad=False).transcribe(sound, "en").tokens
    assert never not in tokens and tokens[0] != free[0]
    generation = {"suppress_tokens": [never], "begin_suppress_tokens": [free[0]]}
    assert [*tokens] == expected_tokens(whisper, sound, language="en", task="transcribe", **generation)


def test_an_end_token_ends_it_and_the_limit_is_told_from_it(whisper: Exported, voice: Sound, tmp_path: Path) -> None:
    sound = voice(2)
    endless = Transcriber.open(whisper.bundle, ONE_THREAD, vad=False).transcribe(sound, "en")
    assert len(endless.tokens) == 24 - 4 and endless.hit_length_cap
    assert endless.timings.tokens == 20 and len(endless.timings.per_token) == 19
    end = endless.tokens[-1]
    bundle = whisper.with_generation(tmp_path / "b", eos_token_id=end)
    ended = Transcriber.open(bundle, ONE_THREAD, vad=False).transcribe(sound, "en")
    assert ended.tokens == endless.tokens[: endless.tokens.index(end)] and not ended.hit_length_cap
    assert ended.timings.tokens == len(ended.tokens) + 1


def test_of_a_loop_that_runs_into_the_limit_the_text_has_one_phrase(
    whisper: Exported, voice: Sound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = json.loads((whisper.bundle / "config.json").read_text())["vocab_size"]
    bundle = whisper.with_generation(tmp_path / "b", suppress_tokens=[token for token in range(size) if token != 7])
    transcriber = Transcriber.open(bundle, ONE_THREAD, vad=False)
    short = transcriber.transcribe(voice(2), "en")
    assert (short.tokens, short.loops, len(short.text.split())) == ((7,) * 20, 0, 20)
    monkeypatch.setattr("edge_asr_deploy.runtime.decoding.loops.LOOP", 20)
    transcript = transcriber.transcribe(voice(2), "en")
    assert (transcript.tokens, transcript.loops, len(transcript.text.split())) == ((7,) * 20, 1, 1)


def test_moonshine_goes_on_in_a_script_that_it_spells(
    moonshine: Exported, voice: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 tokens for a second of Latin script, 15 where every two tokens are one letter."""
    transcriber = Transcriber.open(moonshine.bundle, ONE_THREAD, vad=False)
    assert len(transcriber.transcribe(voice(1)).tokens) == 8
    monkeypatch.setattr(transcriber.engine, "text", lambda tokens: "한" * (len(tokens) // 2))
    transcript = transcriber.transcribe(voice(1))
    assert len(transcript.tokens) == 15 and transcript.hit_length_cap


def test_the_text_is_the_tokens_words(moonshine: Exported, voice: Sound) -> None:
    transcript = Transcriber.open(moonshine.bundle, ONE_THREAD, vad=False).transcribe(voice(1))
    assert transcript.text == " ".join(f"w{token}" for token in transcript.tokens if token < 300)


@pytest.mark.parametrize("silence", [0.0, 1e-4])
def test_silence_is_empty(whisper: Exported, silence: float) -> None:
    samples = np.full(32_000, silence, np.float32)
    transcript = Transcriber.open(whisper.bundle, ONE_THREAD, vad=False).transcribe(samples)
    assert (transcript.text, transcript.tokens, transcript.seconds, transcript.windows) == ("", (), 2.0, 0)
    assert transcript.timings.encoder == 0 and transcript.timings.per_token == ()
    assert not transcript.hit_length_cap


def test_long_audio_is_its_windows_one_after_the_other(whisper: Exported, voice: Sound) -> None:
    first, pause, second = voice(25, 1), np.zeros(8_000, np.float32), voice(20, 2)
    transcriber = Transcriber.open(whisper.bundle, ONE_THREAD, vad=False)
    transcript = transcriber.transcribe(np.concatenate([first, pause, second]), "en")
    parts = [
        transcriber.transcribe(part, "en")
        for part in (np.concatenate([first, pause[:4_000]]), np.concatenate([pause[4_000:], second]))
    ]
    assert transcript.windows == 2 and transcript.seconds == 45.5
    # The cut may lie some samples from the middle of the pause, which are silent in either window.
    assert transcript.text.split()[:3] == parts[0].text.split()[:3]
    assert len(transcript.tokens) == sum(len(part.tokens) for part in parts)
    assert transcript.timings.tokens == sum(part.timings.tokens for part in parts)


def test_a_silent_window_is_passed_over(moonshine: Exported, voice: Sound) -> None:
    transcriber = Transcriber.open(moonshine.bundle, ONE_THREAD, vad=False)
    transcript = transcriber.transcribe(np.concatenate([np.zeros(16_000 * 40, np.float32), voice(5)]))
    assert transcript.windows == 1
    assert 0 < len(transcript.tokens) <= int(25 * 6.5) + 2


def test_very_short_audio_is_taken(moonshine: Exported, whisper: Exported, voice: Sound) -> None:
    for exported in (moonshine, whisper):
        assert Transcriber.open(exported.bundle, ONE_THREAD, vad=False).transcribe(voice(0.01)).tokens


def test_a_transcript_survives_json(whisper: Exported, voice: Sound) -> None:
    for sound in (voice(1), np.zeros(16_000, np.float32)):
        transcript = Transcriber.open(whisper.bundle, ONE_THREAD, vad=False).transcribe(sound)
        written = json.dumps(dataclasses.asdict(transcript))
        assert TypeAdapter(Transcript).validate_json(written) == transcript


def test_the_parts_take_less_time_than_the_whole(whisper: Exported, voice: Sound) -> None:
    timings: Timings = Transcriber.open(whisper.bundle, ONE_THREAD, vad=False).transcribe(voice(1)).timings
    assert min(timings.features, timings.encoder, timings.first_token, *timings.per_token) > 0
    assert timings.features + timings.encoder + timings.decoder <= timings.total
    assert timings.first_token + sum(timings.per_token) == pytest.approx(timings.decoder)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(moonshine: Exported, voice: Sound, value: float) -> None:
    sound = voice(1)
    sound[7] = value
    with pytest.raises(UserError, match="samples: NaN or infinite"):
        Transcriber.open(moonshine.bundle, ONE_THREAD, vad=False).transcribe(sound)


def test_a_damaged_bundle_is_refused_unless_told_not_to_look(moonshine: Exported, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(moonshine.bundle, folder)
    (folder / "added_tokens.json").write_text("{}")
    with pytest.raises(UserError, match=r"added_tokens\.json: is not in the manifest"):
        Transcriber.open(folder, vad=False)
    Transcriber.open(folder, verify=False, vad=False)


def test_a_folder_without_a_manifest_opens_when_its_family_is_told(
    moonshine: Exported, voice: Sound, tmp_path: Path
) -> None:
    folder = tmp_path / "unfinished"
    shutil.copytree(moonshine.bundle, folder)
    (folder / "manifest.json").unlink()
    assert Transcriber.open(folder, family="moonshine", vad=False).transcribe(voice(1)).tokens
    with pytest.raises(UserError, match="is not a bundle"):
        Transcriber.open(folder, vad=False)


def test_a_configuration_without_a_start_token_is_refused(moonshine: Exported, tmp_path: Path) -> None:
    bare = json.dumps({"model_type": "moonshine"}).encode()
    bundle = write_bundle(tmp_path / "b", moonshine.bundle, {"config.json": bare, "generation_config.json": b"{}"})
    with pytest.raises(UserError, match="decoder_start_token_id is None"):
        Transcriber.open(bundle, vad=False)


def test_the_language_is_detected_once(whisper: Exported, voice: Sound, monkeypatch: pytest.MonkeyPatch) -> None:
    transcriber = Transcriber.open(whisper.bundle, ONE_THREAD, vad=False)
    starts: list[int] = []
    start = Decoder.start
    monkeypatch.setattr(Decoder, "start", lambda self, *given: starts.append(0) or start(self, *given))
    assert transcriber.transcribe(voice(45)).windows == 2
    assert len(starts) == 3


@pytest.mark.parametrize("batch", [2, 3, 4])
def test_windows_decoded_together_say_what_they_say_alone(
    whisper: Exported, moonshine: Exported, voice: Sound, tmp_path: Path, batch: int
) -> None:
    sound = np.concatenate([voice(10 + 7 * n, n) * (n + 1) for n in range(4)])
    # An end that windows reach after different numbers of tokens.
    tokens = Transcriber.open(whisper.bundle, ONE_THREAD, vad=False).transcribe(sound, "en").tokens
    ending = whisper.with_generation(tmp_path / "b", eos_token_id=tokens[len(tokens) // 2])
    for bundle in (ending, moonshine.bundle):
        alone, together = (
            Transcriber.open(bundle, ONE_THREAD, batch=size, vad=False).transcribe(sound) for size in (1, batch)
        )
        assert alone.windows > 2
        assert together.tokens == alone.tokens
        assert together.timings.tokens == alone.timings.tokens


@pytest.mark.parametrize("keywords", [{}, {"timestamps": "segment"}, {"previous_text": True}], ids=str)
def test_the_text_comes_piece_by_piece(
    whisper: Exported, voice: Sound, monkeypatch: pytest.MonkeyPatch, keywords: dict[str, Any]
) -> None:
    transcriber = Transcriber.open(whisper.bundle, vad=False, batch=2)
    sound = np.concatenate([voice(seconds, seed) for seed, seconds in enumerate((29, 3, 25, 20, 30, 5, 28))])
    heard: list[int] = []
    step = transcriber.engine._group
    monkeypatch.setattr(
        transcriber.engine, "_group", lambda clips, job: (heard.append(len(clips)), step(clips, job))[1]
    )
    pieces: list[tuple[int, str]] = []
    found = transcriber.transcribe(sound, "en", on_text=lambda text: pieces.append((sum(heard), text)), **keywords)
    assert "".join(text for _, text in pieces) == found.text
    assert len(pieces) >= 4 and pieces[0][0] <= 2, "the first piece waits for its own group only"
    assert found.text == transcriber.transcribe(sound, "en", **keywords).text


def test_a_transcription_ends_when_it_is_told_to(whisper: Exported, voice: Sound) -> None:
    transcriber, said = Transcriber.open(whisper.bundle, vad=False, batch=1), list[str]()
    sound = np.concatenate([voice(20, seed) for seed in range(4)])
    with pytest.raises(Stopped):
        transcriber.transcribe(sound, "en", on_text=said.append, stop=lambda: bool(said))
    assert len(said) == 1
    asked: list[int] = []
    with pytest.raises(Stopped):
        transcriber.transcribe(sound[:16_000], "en", stop=lambda: asked.append(1) or len(asked) == 4)
    assert len(asked) == 4, "it is asked before every token"
    assert transcriber.transcribe(sound, "en").text.startswith(said[0])


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_without_onnxruntimes_private_names_the_words_are_the_same(
    name: str, request: pytest.FixtureRequest, noise: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported: Exported = request.getfixturevalue(name)
    sound = noise(2, 0)
    fast = Transcriber.open(exported.bundle, ONE_THREAD, vad=False).transcribe(sound)
    seen: list[object] = []

    def public(binding: object) -> tuple[object, tuple[()]]:
        seen.append(binding)
        return binding, ()

    monkeypatch.setattr("edge_asr_deploy.runtime.decoding.decoder.native", public)
    slow = Transcriber.open(exported.bundle, ONE_THREAD, vad=False).transcribe(sound)
    assert seen and slow.tokens == fast.tokens and len(set(slow.tokens)) > 1
