"""Learning from the float model: which numbers move, that it helps, and that it never harms what was kept aside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

import torch

from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import family
from edge_asr_deploy.ptq.calibration.samples import Sample
from edge_asr_deploy.ptq.holding import CodedLinear
from edge_asr_deploy.ptq.learning import distilling
from edge_asr_deploy.ptq.learning.distilling import distill
from edge_asr_deploy.ptq.learning.scaled import ScaledMatrix
from edge_asr_deploy.ptq.needs import needs_samples
from edge_asr_deploy.ptq.quantize import quantize
from edge_asr_deploy.quantized.weight import QuantizedWeight
from edge_asr_deploy.recipe.components import Distillation
from edge_asr_deploy.recipe.document import parse
from tests.support import short, tiny

BITS = 2
RTN: dict[str, Any] = {"bits": BITS, "granularity": "group:16", "quantizer": {"method": "rtn"}}
# Scales of each kind, and outliers of each kind.
KINDS: dict[str, dict[str, Any]] = {
    "plain": RTN,
    "a channel each": {**RTN, "granularity": "channel"},
    "two levels": {**RTN, "storage": "two-level"},
    "coded, finer weights": {**RTN, "quantizer": {"method": "spqr", "share": 0.05}},
    "float columns": {**RTN, "bits": 4, "quantizer": {"method": "quik", "share": 0.1}},
}
WANTED = Distillation(pieces=8, steps=12, rate=0.01)
Learned = tuple[Any, list[QuantizedWeight], list[QuantizedWeight]]


def quantized(name: str, spec: dict[str, Any], frees: bool = False) -> tuple[Any, list[QuantizedWeight]]:
    model = tiny.MODELS[name]()
    parts = {part: {"weights": spec} for part in ("encoder", "cross_attention", "decoder")}
    table = {"weights": {"bits": 8, "granularity": "group:16", "quantizer": {"method": "rtn"}}}
    recipe = parse({"name": "test", "family": name, **parts, "embedding": table, "stem": {"bits": 32}}, "test")
    generator = torch.Generator().manual_seed(0)
    shape = (1, 80, 3000) if name == "whisper" else (1, 16_000)
    tokens = torch.randint(4, 300, (1, 8), generator=generator)
    samples = [Sample(torch.randn(shape, generator=generator), 40, tokens)]
    return model, quantize(model, family(name), recipe, samples, frees=frees)


def speech() -> list[Utterance]:
    return [Utterance(f"u{seed}", short.noise(3.0, seed), None, "noise", language="en") for seed in range(4)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

    made = {name: tmp_path_factory.mktemp(name) for name in tiny.MODELS}
    WhisperFeatureExtractor().save_pretrained(made["whisper"])
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(made["moonshine"])
    return made


def teacher(name: str) -> Any:
    model = tiny.MODELS[name]()
    model.generation_config.no_timestamps_token_id = tiny.VOCABULARY - 1
    return model


def learned(name: str, folder: Path, wanted: Distillation = WANTED, frees: bool = False) -> Learned:
    model, before = quantized(name, RTN, frees)
    return model, before, distill(model, teacher(name), family(name), folder, before, speech(), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_the_matrix_is_that_of_the_weight(kind: str) -> None:
    for weight in quantized("moonshine", KINDS[kind])[1]:
        one = ScaledMatrix(weight)
        np.testing.assert_allclose(one.matrix(), weight.dequantize(), rtol=1e-6, atol=1e-7)
        again = one.learned()
        np.testing.assert_array_equal(again.dequantize(), weight.dequantize(), "nothing was learned")
        assert again.error is None, "it was measured before"


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradients_are_those_of_the_stored_scales(kind: str) -> None:
    weight = quantized("moonshine", KINDS[kind])[1][1]
    one, generator = ScaledMatrix(weight), torch.Generator().manual_seed(0)
    towards = torch.randn(weight.shape, generator=generator)
    for change, gradient in zip(one.changes, one.gradients(towards), strict=True):
        before = float((one.matrix().double() * towards).sum())
        direction, step = torch.randn(change.shape, generator=generator), 1e-2
        change += step * direction
        after = float((one.matrix().double() * towards).sum())
        change -= step * direction
        # The matrix is linear in each of the stored tensors.
        assert (after - before) / step == pytest.approx(float((gradient * direction).sum()), rel=2e-3, abs=2e-3)


@pytest.mark.parametrize("frees", [False, True])
@pytest.mark.parametrize("name", tiny.MODELS)
def test_scales_norms_and_biases_move_and_codes_stay(name: str, frees: bool, folders: dict[str, Path]) -> None:
    model, before, after = learned(name, folders[name], frees=frees)
    assert [one.name for one in after] == [one.name for one in before]
    changed = 0
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new.codes, old.codes)
        np.testing.assert_array_equal(new.zero_points, old.zero_points)
        module = model.get_submodule(new.name)
        np.testing.assert_array_equal(module.weight.detach().numpy(), new.dequantize(), "the model computes with it")
        assert "forward" not in vars(module)
        assert not frees or new.component == "embedding" or isinstance(module, CodedLinear)
        changed += not np.array_equal(new.scales.by_group(), old.scales.by_group())
        assert new.component != "embedding" or new is old, "the table stays"
    assert changed == len(before) - 1
    norms, untouched = (one.model.encoder.layer_norm.weight for one in (model, quantized(name, RTN)[0]))
    assert not torch.equal(norms, untouched)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", tiny.MODELS)
def test_what_has_learned_is_nearer_to_the_float_model(name: str, folders: dict[str, Path]) -> None:
    school = distilling._School(teacher(name), family(name), folders[name], None)
    lessons = school.lessons(speech(), 6, lambda *call: None, 0, 6)
    model, weights = quantized(name, RTN)
    before = distilling._Learner(model, school, weights).mean_divergence(lessons)
    model, _, weights = learned(name, folders[name])
    after = distilling._Learner(model, school, weights).mean_divergence(lessons)
    assert 0 < after < 0.9 * before


def test_the_same_speech_teaches_the_same(folders: dict[str, Path]) -> None:
    (first, _, one), (second, _, other) = (learned("moonshine", folders["moonshine"]) for _ in range(2))
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left.scales.by_group(), right.scales.by_group())
    assert torch.equal(first.model.encoder.layer_norm.weight, second.model.encoder.layer_norm.weight)


def test_what_is_worse_on_clips_kept_aside_is_forgotten(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def worse(self: Any, lessons: Any) -> float:
        asked.append(float(len(asked)))
        return asked[-1]

    monkeypatch.setattr(distilling._Learner, "mean_divergence", worse)
    model, before, after = learned("moonshine", folders["moonshine"])
    assert len(asked) > 2
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new.dequantize(), old.dequantize())
    untouched = quantized("moonshine", RTN)[0].state_dict()
    assert all(torch.equal(value, untouched[name]) for name, value in model.state_dict().items())


def test_the_float_model_stays_as_it_is(folders: dict[str, Path]) -> None:
    model, weights = quantized("moonshine", RTN)
    floats = teacher("moonshine")
    distill(model, floats, family("moonshine"), folders["moonshine"], weights, speech()[:1], WANTED)
    untouched = teacher("moonshine").state_dict()
    assert all(torch.equal(value, untouched[name]) for name, value in floats.state_dict().items())
    assert all(parameter.grad is None for parameter in floats.parameters())


def test_a_recipe_that_learns_needs_speech_and_codes() -> None:
    rounded = {part: {"weights": RTN} for part in ("encoder", "cross_attention", "decoder", "embedding")}
    plain = parse({"name": "t", "family": "whisper", **rounded}, "test")
    assert not needs_samples(plain) and "distillation" not in plain.model_dump()
    learns = parse({"name": "t", "family": "whisper", **rounded, "distillation": {"steps": 5}}, "test")
    assert needs_samples(learns) and learns.distillation == Distillation(steps=5)
    floats = {part: {"weights": {"bits": 32, "granularity": "channel"}} for part in rounded}
    with pytest.raises(UserError, match="distillation"):
        parse({"name": "t", "family": "whisper", **floats, "distillation": {}}, "test")
