"""The driver on small random models: what is quantized, on which activations, and what the model computes after."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import family
from edge_asr_deploy.ptq.calibration.samples import Sample
from edge_asr_deploy.ptq.methods.gptq import gptq
from edge_asr_deploy.ptq.needs import needs_samples
from edge_asr_deploy.ptq.quantize import quantize
from edge_asr_deploy.ptq.statistics import Statistics
from edge_asr_deploy.quantized.scales import PlainScales
from edge_asr_deploy.recipe.document import Recipe
from tests.support import short as models

NAMES = ("whisper", "moonshine")
RTN: dict[str, Any] = {"method": "rtn"}
GPTQ: dict[str, Any] = {"method": "gptq"}
FLOAT: dict[str, Any] = {"bits": 32, "granularity": "channel"}


def run(name: str, recipe: Recipe, samples: list[Sample] | None = None) -> tuple[Any, list[Any]]:
    model = models.model(name)
    return model, quantize(model, family(name), recipe, models.samples(name) if samples is None else samples)


def logits(model: Any, sample: Sample) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(sample.inputs, decoder_input_ids=sample.tokens).logits
    return result


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("quantizer", [RTN, GPTQ])
def test_every_matrix_is_quantized_once_and_the_model_computes_with_its_values(
    name: str, quantizer: dict[str, Any]
) -> None:
    before = models.model(name)
    model, weights = run(name, models.recipe(name, quantizer))
    components = family(name).structure(model.config).components()
    assert [w.name for w in weights] == list(components)
    for weight in weights:
        assert weight.component == components[weight.name]
        assert weight.method == quantizer["method"]
        assert weight.codes.max() < 2**weight.bits and isinstance(weight.scales, PlainScales)
        assert np.array_equal(weight.dequantize(), model.get_submodule(weight.name).weight.detach().numpy())
        original = before.get_submodule(weight.name).weight.detach().numpy()
        assert 0 < np.abs(weight.dequantize() - original).mean() < 0.2 * np.abs(original).mean()
        assert weight.error is not None and 0 < weight.error < 0.3
    for path, parameter in model.named_parameters():
        if path.removesuffix(".weight") not in components:
            assert torch.equal(parameter, before.get_parameter(path)), path


@pytest.mark.parametrize("name", NAMES)
def test_the_head_stays_tied_to_the_embedding(name: str) -> None:
    model, _ = run(name, models.recipe(name, GPTQ))
    assert model.proj_out.weight is model.get_decoder().embed_tokens.weight


@pytest.mark.parametrize("name", NAMES)
def test_wide_components_are_left_alone(name: str) -> None:
    model, weights = run(name, models.recipe(name, GPTQ, encoder=FLOAT, embedding={**FLOAT, "bits": 16}))
    assert {w.component for w in weights} == {"cross_attention", "decoder"}
    before = models.model(name)
    for path in ("model.encoder.layers.1.self_attn.q_proj.weight", "model.decoder.embed_tokens.weight"):
        assert torch.equal(model.get_parameter(path), before.get_parameter(path))


@pytest.mark.parametrize("name", NAMES)
def test_gptq_changes_the_logits_less_than_rounding_to_nearest(name: str) -> None:
    samples = models.samples(name, 12)
    reference = [logits(models.model(name), sample) for sample in samples]
    errors = {}
    for method, quantizer in (("rtn", RTN), ("gptq", GPTQ)):
        model, _ = run(name, models.recipe(name, quantizer, bits=3), samples)
        errors[method] = sum((logits(model, s) - r).norm().item() for s, r in zip(samples, reference, strict=True))
    assert errors["gptq"] < 0.9 * errors["rtn"]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_calibration_gives_the_same_codes(name: str) -> None:
    (_, first), (_, second) = (run(name, models.recipe(name, GPTQ)) for _ in range(2))
    assert all(np.array_equal(a.codes, b.codes) for a, b in zip(first, second, strict=True))


@pytest.fixture
def hessians(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """The Hessian that each GPTQ call was given, by the names of its layers."""
    seen: dict[str, torch.Tensor] = {}

    def spy(weight: Any, spec: Any, options: Any, hessian: torch.Tensor, name: str) -> Any:
        seen[name] = hessian.clone()
        return gptq(weight, spec, options, hessian, name)

    monkeypatch.setattr("edge_asr_deploy.ptq.methods.gptq", spy)
    return seen


def test_padded_frames_reach_no_statistic(hessians: dict[str, torch.Tensor]) -> None:
    """An encoder without attention across frames sees padding only through the statistics: there it must not be."""
    samples = models.samples("whisper")
    louder = []
    for sample in samples:
        inputs = sample.inputs.clone()
        # The second convolution reaches one spectrogram frame to either side.
        inputs[..., 2 * sample.frames + 2 :] *= 3
        louder.append(Sample(inputs, sample.frames, sample.tokens))
    found = []
    for variant in (samples, louder):
        model = models.whisper()
        with torch.no_grad():
            for layer in model.get_encoder().layers:
                layer.self_attn.out_proj.weight.zero_()
        quantize(model, family("whisper"), models.recipe("whisper", GPTQ), variant)
        found.append(dict(hessians))
    encoder_side = [n for n in found[0] if ("model.encoder" in n and "out_proj" not in n) or "encoder_attn.k" in n]
    assert len(encoder_side) == 2 * 3 + 1
    for name in encoder_side:
        assert torch.allclose(found[0][name], found[1][name], rtol=1e-5, atol=1e-7), name


@pytest.mark.parametrize("name", NAMES)
def test_cross_attention_is_calibrated_on_the_quantized_encoders_output(
    name: str, hessians: dict[str, torch.Tensor]
) -> None:
    samples = models.samples(name)
    model, _ = run(name, models.recipe(name, GPTQ, bits=2), samples)

    def expected(encoder: Any) -> torch.Tensor:
        statistics = Statistics(encoder.layer_norm.weight.shape[0])
        for sample in samples:
            with torch.no_grad():
                heard = encoder(sample.inputs).last_hidden_state[0, : sample.frames]
            statistics.add(heard, torch.ones(len(heard)))
        return statistics.hessian

    (cross,) = (hessian for layers, hessian in hessians.items() if "encoder_attn.k_proj" in layers)
    assert torch.allclose(cross, expected(model.get_encoder()), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(cross, expected(models.model(name).get_encoder()), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_each_layer_is_calibrated_behind_the_quantized_ones_before_it(
    name: str, hessians: dict[str, torch.Tensor]
) -> None:
    """In the finished model, every layer's inputs have the very Hessian it was rounded with."""
    samples = models.samples(name)
    # The decoder was calibrated on the float embedding, which is rounded last.
    model, _ = run(name, models.recipe(name, GPTQ, embedding=FLOAT), samples)
    for step in family(name).structure(model.config).shared_inputs():
        linear = model.get_submodule(step.paths[0])
        inputs: list[torch.Tensor] = []
        handle = linear.register_forward_pre_hook(lambda _, args, inputs=inputs: inputs.append(args[0][0]))
        statistics = Statistics(linear.in_features)
        for sample in samples:
            logits(model, sample)
            real = sample.frames if step.component in ("encoder", "cross_attention") else None
            statistics.add(inputs[-1][:real], torch.ones(len(inputs[-1][:real])))
        handle.remove()
        found = hessians[" / ".join(step.paths)]
        assert torch.allclose(found, statistics.hessian, rtol=1e-3, atol=1e-4 * found.abs().max().item()), step


@pytest.mark.parametrize("name", NAMES)
def test_rounding_to_nearest_needs_no_speech(name: str) -> None:
    recipe = models.recipe(name, {"method": "rtn", "clip_steps": 4})
    assert not needs_samples(recipe)
    _, weights = run(name, recipe, [])
    assert len(weights) == len(family(name).structure(models.model(name).config).components())
    with pytest.raises(UserError, match="calibration: no clips"):
        run(name, models.recipe(name, GPTQ), [])


@pytest.mark.parametrize("name", NAMES)
def test_a_component_without_statistics_is_rounded_among_those_with(name: str) -> None:
    nearest = {"bits": 4, "granularity": "group:16", "quantizer": RTN}
    _, mixed = run(name, models.recipe(name, GPTQ, cross_attention=nearest, embedding=nearest))
    _, plain = run(name, models.recipe(name, RTN), [])
    codes = {w.name: w.codes for w in plain}
    same = {w.name for w in mixed if np.array_equal(w.codes, codes[w.name])}
    assert same == {w.name for w in mixed if w.component in ("cross_attention", "embedding")}


def test_progress_counts_layers() -> None:
    calls: list[tuple[str, int, int]] = []
    model = models.whisper(layers=1)
    weights = quantize(
        model,
        family("whisper"),
        models.recipe("whisper", RTN, decoder=FLOAT),
        progress=lambda *call: calls.append(call),
    )
    assert calls == [(w.name, i + 1, len(weights)) for i, w in enumerate(weights)]


def test_broken_weights_and_untied_heads_are_named() -> None:
    model = models.whisper(layers=1)
    with torch.no_grad():
        model.model.encoder.layers[0].fc1.weight[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"weights of model\.encoder\.layers\.0\.fc1: nan"):
        quantize(model, family("whisper"), models.recipe("whisper", RTN))
    model = models.whisper(layers=1)
    model.proj_out.weight = torch.nn.Parameter(model.proj_out.weight.clone())
    with pytest.raises(UserError, match="not tied"):
        quantize(model, family("whisper"), models.recipe("whisper", RTN))
