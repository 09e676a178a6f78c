"""Layers with a spec of their own: what a recipe may say, and what reaches codes, model and exported graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import family
from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.ptq.calibration.samples import Sample
from edge_asr_deploy.ptq.needs import needs_samples
from edge_asr_deploy.ptq.quantize import quantize
from edge_asr_deploy.ptq.stem import narrow_in_place
from edge_asr_deploy.recipe.document import Recipe, float_recipe, parse
from tests.support import short as models
from tests.support import tiny

NAMES = ("whisper", "moonshine")
LAYERS: dict[str, Any] = {
    "*.fc2": {"bits": 6},
    "*.self_attn.q_proj": {"bits": 3, "symmetric": True},
    "model.encoder.layers.0.self_attn.q_proj": {"bits": 8, "granularity": "channel"},
    "*.1.encoder_attn.v_proj": {"bits": 16},
    "*.embed_tokens": {"bits": 5},
}


def recipe(name: str, layers: dict[str, Any], steps: Any = (), quantizer: str = "gptq") -> Recipe:
    weights = {"bits": 4, "granularity": "group:16", "quantizer": {"method": quantizer}}
    chosen = {c: {"weights": weights | ({} if c == "embedding" else {"steps": list(steps)})} for c in COMPONENTS}
    return parse({"name": "test", "family": name, "stem": {"bits": 32}, **chosen, "layers": layers}, "test")


def test_of_several_patterns_the_later_one_wins_key_by_key() -> None:
    chosen = recipe("whisper", LAYERS)
    first = chosen.weights("model.encoder.layers.0.self_attn.q_proj", "encoder")
    assert (first.bits, first.granularity, first.symmetric) == (8, "channel", True)
    assert first.quantizer == chosen.component("encoder").quantizer
    assert chosen.weights("model.encoder.layers.0.fc1", "encoder") == chosen.component("encoder")
    assert not chosen.is_float and float_recipe("whisper").is_float
    assert not float_recipe("whisper").model_copy(update={"layers": chosen.layers}).is_float


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"*.fc1": {"bits": 9}}, r"layers\.\*\.fc1\.bits 9: choose 2 to 8, 16"),
        ({"*.fc1": {"granularity": "group:5"}}, r"layers\.\*\.fc1\.granularity 'group:5': choose channel"),
        ({"*.fc1": {"steps": []}}, r"layers\.\*\.fc1\.steps: no such key; allowed here: bits, symmetric"),
        ({"*.fc1": {"quantizer": {"method": "rtn", "x": 1}}}, r"fc1\.quantizer\.x: no such key; allowed .* clip_steps"),
    ],
)
def test_a_wrong_key_or_value_is_named(layers: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        recipe("whisper", layers)


def test_a_pattern_that_matches_nothing_is_one_line() -> None:
    chosen = recipe("whisper", {"*.fc3": {"bits": 8}})
    with pytest.raises(UserError, match=r"recipe test: layers\.\*\.fc3: matches no matrix .* like model\.encoder") as e:
        quantize(models.whisper(), family("whisper"), chosen, models.samples("whisper"))
    assert "\n" not in str(e.value)


def test_one_layer_that_looks_at_speech_needs_speech() -> None:
    assert not needs_samples(recipe("whisper", {"*.fc1": {"bits": 8}}, quantizer="rtn"))
    chosen = recipe("whisper", {"*.fc1": {"quantizer": {"method": "gptq"}}}, quantizer="rtn")
    assert needs_samples(chosen)
    with pytest.raises(UserError, match="no clips"):
        quantize(models.whisper(), family("whisper"), chosen)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [[], [{"method": "awq"}], [{"method": "smoothquant"}, {"method": "qep"}]])
def test_every_layer_gets_its_own_spec(name: str, steps: list[Any]) -> None:
    chosen, model = recipe(name, LAYERS, steps), models.shuffled(name, 0)
    components = family(name).structure(model.config).components()
    narrow_in_place(model, components, chosen)
    found = {w.name: w for w in quantize(model, family(name), chosen, models.samples(name))}
    specs = chosen.specs(components)
    assert found.keys() == {path for path, spec in specs.items() if spec.is_integer}
    for path, spec in specs.items():
        values = model.get_submodule(path).weight.detach().numpy()
        if spec.bits == 16:
            assert np.array_equal(values, values.astype(np.float16)), "scaled, it would be no float16 matrix"
            continue
        weight = found[path]
        assert (weight.bits, weight.group, weight.symmetric) == (spec.bits, spec.group_size, spec.symmetric)
        assert np.array_equal(values, weight.dequantize())


def test_layers_of_one_step_are_rounded_as_if_each_step_had_one_spec() -> None:
    """Rows do not influence each other, so a layer's codes depend on its own spec alone."""
    mixed, plain = (
        quantize(models.whisper(), family("whisper"), recipe("whisper", layers), models.samples("whisper"))
        for layers in ({"*.layers.0.self_attn.k_proj": {"bits": 8}}, {})
    )
    by_name = {w.name: w for w in plain}
    first = [w for w in mixed if w.name.startswith("model.encoder.layers.0.self_attn") and w.name[-6] in "qv"]
    assert len(first) == 2 and all(np.array_equal(w.codes, by_name[w.name].codes) for w in first)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scaling", ["awq", "smoothquant"])
def test_scales_stay_exact_where_layers_differ(name: str, scaling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_asr_deploy.ptq.driver.round_together", lambda *_: [])
    before, model = models.shuffled(name, 0), models.shuffled(name, 0)
    chosen = recipe(name, LAYERS | {"*.1.encoder_attn.v_proj": {"bits": 32}}, [{"method": scaling}])
    quantize(model, family(name), chosen, models.samples(name))
    for sample in models.samples(name):
        with torch.no_grad():
            is_, should = (m(sample.inputs, decoder_input_ids=sample.tokens).logits for m in (model, before))
        assert (is_ - should).abs().max() < 1e-4 * should.abs().max()
    assert not torch.equal(model.get_encoder().layer_norm.weight, before.get_encoder().layer_norm.weight)


@pytest.mark.parametrize("name", NAMES)
def test_the_exported_graph_holds_the_layers_own_bits(name: str, tmp_path: Path) -> None:
    pytest.importorskip("optimum.exporters.onnx")
    from edge_asr_deploy.proof.verify import check_operators
    from tests.support.graphs import agreement_of, build

    chosen, model = recipe(name, LAYERS, quantizer="rtn"), tiny.MODELS[name]()
    components = family(name).structure(model.config).components()
    narrow_in_place(model, components, chosen)
    weights = quantize(model, family(name), chosen)
    layers = {layer.name: layer for layer in build(model, chosen, weights, tmp_path)}
    for path, spec in chosen.specs(components).items():
        assert layers[path].bits == spec.bits
        assert layers[path].bytes >= spec.bits * np.prod(layers[path].shape) / 8
    check_operators(tmp_path, list(layers.values()))
    generator = torch.Generator().manual_seed(0)
    shape = (1, 80, 3000) if name == "whisper" else (1, 16_000)
    tokens = torch.randint(4, 300, (1, 8), generator=generator)
    agreement = agreement_of(model, tmp_path, [Sample(torch.randn(shape, generator=generator), 40, tokens)])
    assert agreement.tokens == 1 and agreement.logits < 1e-3
