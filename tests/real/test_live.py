"""Real bundles on real sounds: silence stays silent, no speech is lost, and a stream says what a file says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_asr_deploy import Transcriber, read_audio
from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.corpora.normalize import normalizer_for
from edge_asr_deploy.harness.evaluation.wer import count, pooled
from edge_asr_deploy.runtime.live.events import Final, Partial
from edge_asr_deploy.runtime.voice import VoiceDetector
from tests.support.fixtures_real import Exporter

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

STREAMED, BLOCK = 16, 1600


def sounds(data: Path) -> list[Path]:
    found = data / "more" / "silence_noise"
    if not found.is_dir():
        pytest.skip("no sounds without speech")
    return sorted(found.glob("*.flac"))


@pytest.mark.parametrize(("model", "bits"), [("whisper-tiny.en", 4), ("moonshine-tiny", 4)])
def test_sounds_without_speech_have_no_text(model: str, bits: int, exported: Exporter, data: Path) -> None:
    transcriber = Transcriber.open(exported(model, bits, 8))
    texts = {path.stem: transcriber.transcribe(path).text for path in sounds(data)}
    assert len(texts) == 7 and not any(texts.values()), texts
    # Without voice activity detection the model does write something.
    noisy = Transcriber.open(exported(model, bits, 8), vad=False)
    assert any(noisy.transcribe(path).text for path in sounds(data))


def test_speech_is_found_in_every_recording_of_speech(data: Path) -> None:
    voice = VoiceDetector.open()
    for name in ("librispeech_test_clean", "librispeech_test_other", "common_voice_en", "asterisk_prompts", "misc"):
        for utterance in read_manifest(data / f"{name}.jsonl"):
            assert voice.has_speech(utterance.samples()), utterance.id


def test_a_stream_says_about_what_a_file_says_and_takes_no_stable_word_back(exported: Exporter, data: Path) -> None:
    transcriber, normalizer = Transcriber.open(exported("whisper-tiny.en", 5, 8)), normalizer_for("en")
    utterances = read_manifest(data / "librispeech_test_clean.jsonl")[:STREAMED]
    streamed, whole = [], []
    for utterance in utterances:
        samples = np.concatenate([utterance.samples(), np.zeros(16_000, np.float32)])
        stream, stable, texts = transcriber.stream(), "", []
        pushed = [event for at in range(0, len(samples), BLOCK) for event in stream.push(samples[at : at + BLOCK])]
        for event in [*pushed, *stream.finish()]:
            if isinstance(event, Partial):
                assert event.stable.startswith(stable) and event.text.startswith(event.stable)
                stable = event.stable
            elif isinstance(event, Final):
                assert event.segment.text.startswith(stable)
                texts.append(event.segment.text)
                stable = ""
        reference = normalizer(utterance.text or "")
        streamed.append(count(reference, normalizer(" ".join(texts))))
        whole.append(count(reference, normalizer(transcriber.transcribe(samples).text)))
    assert pooled(streamed).wer <= pooled(whole).wer + 0.015


def test_pauses_of_a_long_recording_cost_little_and_no_words(exported: Exporter, data: Path) -> None:
    transcriber, normalizer = Transcriber.open(exported("whisper-tiny.en", 4, 8), threads=1), normalizer_for("en")
    utterances = read_manifest(data / "librispeech_test_clean.jsonl")[:12]
    quiet = (1e-4 * np.random.default_rng(0).normal(size=8 * 16_000)).astype(np.float32)
    joined = np.concatenate([part for one in utterances for part in (one.samples(), quiet)])
    transcript = transcriber.transcribe(joined)
    alone = " ".join(transcriber.transcribe(read_audio(one.audio)).text for one in utterances)
    reference = normalizer(" ".join(one.text or "" for one in utterances))
    assert count(reference, normalizer(transcript.text)).wer <= count(reference, normalizer(alone)).wer + 0.01
    assert transcript.windows <= len(utterances) + 3
