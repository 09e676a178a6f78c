"""From a clip to a calibration sample, on random models whose own greedy transcript is whatever it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

import torch

from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import family
from edge_asr_deploy.ptq.calibration import samples as preparing
from edge_asr_deploy.ptq.calibration.samples import Sample, encode, prepare
from edge_asr_deploy.ptq.calibration.transcripts import TokenCache
from edge_asr_deploy.recipe.components import Calibration
from tests.support import short as models

NAMES = ("whisper", "moonshine")


def utterance(name: str, seconds: float, seed: int) -> Utterance:
    return Utterance(name, models.noise(seconds, seed), None, "noise")


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(name: str, tmp_path: Path) -> Path:
    models.extractor(name).save_pretrained(tmp_path)
    return tmp_path


def test_the_decoder_reads_the_prompt_and_the_models_own_greedy_text(name: str, folder: Path) -> None:
    model, clips = models.model(name), [utterance(f"u{i}", 0.5 + 0.01 * i, i) for i in range(10)]
    samples = prepare(model, family(name), folder, clips, Calibration())
    prompt = family(name).prompt(model.generation_config, "en", "transcribe")
    assert len(samples) == 10
    for clip, sample in zip(clips, samples, strict=True):
        assert sample.frames == family(name).frames(len(clip.samples()), model.config)
        assert tuple(sample.tokens[0, : len(prompt)].tolist()) == prompt
        assert not (sample.tokens[0, len(prompt) :] == model.generation_config.eos_token_id).any()
        with torch.no_grad():
            best = model(sample.inputs, decoder_input_ids=sample.tokens).logits[0].argmax(-1)
        assert sample.tokens.shape[1] > len(prompt)
        assert torch.equal(best[len(prompt) - 1 : -1], sample.tokens[0, len(prompt) :])


def test_inputs_are_those_of_the_feature_extractor(name: str, folder: Path) -> None:
    clip = utterance("a", 0.5, 0)
    (sample,) = prepare(models.model(name), family(name), folder, [clip], Calibration())
    if name == "whisper":
        assert sample.inputs.shape == (1, 16, 2 * models.FRAMES)
        assert sample.frames == 25
    else:
        assert np.array_equal(sample.inputs[0].numpy(), clip.samples())
        # 6.5 tokens a second and 2 more, behind the start token.
        assert sample.tokens.shape[1] <= 1 + 5


def test_clips_can_be_cut(name: str, folder: Path) -> None:
    model = models.model(name)
    (whole,) = prepare(model, family(name), folder, [utterance("a", 0.8, 0)], Calibration())
    (cut,) = prepare(model, family(name), folder, [utterance("a", 0.8, 0)], Calibration(seconds=0.4))
    assert cut.frames == family(name).frames(6400, model.config) < whole.frames


def test_noisy_clips_are_what_the_model_hears_and_transcribes(name: str, folder: Path) -> None:
    model, clips = models.model(name), [utterance(f"u{i}", 0.5, i) for i in range(2)]
    clean = prepare(model, family(name), folder, clips, Calibration())
    noisy = prepare(model, family(name), folder, clips, Calibration(noisy=0.5))
    assert torch.equal(noisy[0].inputs, clean[0].inputs)
    assert not torch.equal(noisy[1].inputs, clean[1].inputs)
    assert noisy[1].frames == clean[1].frames


def multilingual() -> Any:
    model = models.whisper()
    known: dict[str, object] = {"lang_to_id": {"<|en|>": 3, "<|es|>": 4}, "task_to_id": {"transcribe": 5}}
    for key, value in {"is_multilingual": True, **known}.items():
        setattr(model.generation_config, key, value)
    return model


def spoken(samples: Sequence[Sample]) -> list[int]:
    return [int(sample.tokens[0, 1]) for sample in samples]


def test_a_clip_is_prompted_in_its_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option's, else the corpus's, else the settings', else the one that the model hears."""
    models.extractor("whisper").save_pretrained(tmp_path)
    model, known = multilingual(), [None, "es", "English", None]
    clips = [replace(utterance(f"u{i}", 0.5, i), language=language) for i, language in enumerate(known)]
    hears = torch.tensor([4, 3, 4, 3])
    monkeypatch.setattr(model, "detect_language", lambda input_features, **_: hears[: len(input_features)])
    run = partial(prepare, model, family("whisper"), tmp_path, clips, Calibration())
    assert spoken(run()) == [4, 4, 3, 3]
    assert spoken(run("es")) == [4, 4, 4, 4]
    model.generation_config.language = "en"
    assert spoken(run()) == [3, 4, 3, 3]


def test_the_model_itself_hears_a_language(tmp_path: Path) -> None:
    models.extractor("whisper").save_pretrained(tmp_path)
    model, clips = multilingual(), [utterance(f"u{i}", 0.5, i) for i in range(4)]
    samples = prepare(model, family("whisper"), tmp_path, clips, Calibration())
    for sample in samples:
        with torch.no_grad():
            logits = model(sample.inputs, decoder_input_ids=torch.tensor([[1]])).logits[0, 0]
        assert sample.tokens[0, 1] == 3 + int(logits[3:5].argmax())


def test_clips_are_encoded_once_for_language_and_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models.extractor("whisper").save_pretrained(tmp_path)
    model, clips = multilingual(), [utterance(str(seed), 0.8, seed) for seed in range(3)]
    expected = prepare(model, family("whisper"), tmp_path, clips, Calibration())
    batches: list[int] = []
    hook = model.get_encoder().conv1.register_forward_pre_hook(lambda _, args: batches.append(len(args[0])))
    monkeypatch.setattr(preparing, "BATCH_BYTES", 2 * 50 * 2 * 2 * 32 * 4)
    samples = prepare(model, family("whisper"), tmp_path, clips, Calibration())
    hook.remove()
    assert batches == [2, 1], "as many at once as their keys and values leave room for"
    assert [one.tokens.tolist() for one in samples] == [one.tokens.tolist() for one in expected]


def test_the_same_clip_in_another_language_is_another_transcript(tmp_path: Path) -> None:
    models.extractor("whisper").save_pretrained(tmp_path)
    cache, clip = TokenCache(None), utterance("a", 0.5, 0)
    for language, token in (("en", 3), ("es", 4), ("en", 3)):
        clips = [replace(clip, language=language)]
        assert spoken(
            prepare(multilingual(), family("whisper"), tmp_path, clips, Calibration(), token_cache=cache)
        ) == [token]


def test_a_language_that_the_model_does_not_know_is_named(tmp_path: Path) -> None:
    models.extractor("whisper").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="language: de: this model knows en, es"):
        prepare(
            multilingual(), family("whisper"), tmp_path, [replace(utterance("a", 0.5, 0), language="de")], Calibration()
        )


def test_progress_counts_clips(name: str, folder: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    clips = [utterance(f"u{i}", 0.3, i) for i in range(3)]
    prepare(models.model(name), family(name), folder, clips, Calibration(), progress=lambda *call: calls.append(call))
    assert calls[-1] == ("u2", 3, 3)


def test_a_clip_without_a_frame_is_named(name: str) -> None:
    with pytest.raises(UserError, match=r"calibration clip: short: 0\.000 s is too short"):
        encode(models.model(name), family(name), models.extractor(name), {"short": np.zeros(0, np.float32)})
