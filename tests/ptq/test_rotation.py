"""Rotations are identities: LayerNorm does not notice them, and a rotated model computes what it computed before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import MoonshineConfig, MoonshineForConditionalGeneration

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import family
from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.ptq.methods import needs_statistics
from edge_asr_deploy.ptq.methods.rotation import orthogonal, rotation
from edge_asr_deploy.ptq.needs import needs_samples
from edge_asr_deploy.ptq.quantize import quantize
from edge_asr_deploy.ptq.rotation import rotate
from edge_asr_deploy.recipe.document import Recipe, parse
from tests.support import short as models

NAMES = ("whisper", "moonshine")
SIDES = (("encoder", "cross_attention"), ("decoder",), ("encoder", "cross_attention", "decoder"))
FLOAT = {"bits": 32, "granularity": "channel"}


def weights(*steps: Any, bits: int = 4, quantizer: str = "rtn") -> dict[str, Any]:
    return {"bits": bits, "granularity": "group:16", "steps": list(steps), "quantizer": {"method": quantizer}}


def recipe(name: str, where: tuple[str, ...] = SIDES[-1], stem: int = 32, **options: Any) -> Recipe:
    turn = {"method": "rotation", **options}
    chosen = {c: weights(turn) if c in where else weights() for c in COMPONENTS}
    return built(name, {**chosen, "embedding": FLOAT}, stem)


def built(name: str, components: dict[str, Any], stem: int = 32) -> Recipe:
    wrapped = {c: {"weights": w} for c, w in components.items()}
    return parse({"name": "test", "family": name, "stem": {"bits": stem}, **wrapped}, "test")


def rotated(name: str, chosen: Recipe, seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    model = models.shuffled(name, seed).to(dtype)
    rotate(model, family(name).structure(model.config), chosen)
    return model


def logits(model: Any, name: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    with torch.no_grad():
        rows = [model(s.inputs.to(dtype), decoder_input_ids=s.tokens).logits for s in models.samples(name, 2)]
    return torch.cat(rows, 1)


@given(st.integers(2, 70), st.integers(0, 1000), st.floats(0.01, 100), st.floats(-100, 100))
@settings(max_examples=30, deadline=None)
def test_layer_norm_does_not_notice(channels: int, seed: int, size: float, mean: float) -> None:
    turn = rotation(channels, seed)
    assert torch.allclose(turn @ turn.T, torch.eye(channels, dtype=torch.float64), atol=1e-12)
    generator = torch.Generator().manual_seed(seed)
    x = mean + size * torch.randn(5, channels, dtype=torch.float64, generator=generator)
    norm = nn.LayerNorm(channels, elementwise_affine=False)
    assert torch.allclose(norm(x @ turn), norm(x) @ turn, atol=1e-7)


def test_the_seed_says_which_rotation() -> None:
    assert torch.equal(rotation(48, 3), rotation(48, 3))
    assert not torch.allclose(rotation(48, 3), rotation(48, 4), atol=0.1)
    # No channel of the input keeps more than a small part of itself.
    assert rotation(384, 0).abs().max() < 0.4
    assert torch.allclose(orthogonal(9, 0) @ orthogonal(9, 0).T, torch.eye(9, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", SIDES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_a_rotated_model_computes_what_it_did(
    name: str, where: tuple[str, ...], dtype: torch.dtype, tolerance: float
) -> None:
    before, after = models.shuffled(name, 0).to(dtype), rotated(name, recipe(name, where), 0, dtype)
    expected = logits(before, name, dtype)
    assert (logits(after, name, dtype) - expected).abs().max() < tolerance * expected.abs().max()
    components = family(name).structure(before.config).components()
    for path, component in components.items():
        same = torch.allclose(after.get_submodule(path).weight, before.get_submodule(path).weight, rtol=1e-2)
        # Values inside the decoder's cross-attention heads are rotated with the decoder.
        values = path.endswith("encoder_attn.v_proj") and "decoder" in where
        assert same == (component not in where and not values), path


@pytest.mark.parametrize("name", NAMES)
def test_a_rotated_decoder_has_the_same_steps_through_its_cache(name: str) -> None:
    models_ = models.shuffled(name, 1).double(), rotated(name, recipe(name), 1, torch.float64)
    sample = models.samples(name, 1)[0]
    found = []
    for model in models_:
        with torch.no_grad():
            heard = model.get_encoder()(sample.inputs.double())
            first = model(encoder_outputs=heard, decoder_input_ids=sample.tokens[:, :5], use_cache=True)
            second = model(
                encoder_outputs=heard,
                decoder_input_ids=sample.tokens[:, 5:7],
                past_key_values=first.past_key_values,
                use_cache=True,
            )
        found.append(torch.cat([first.logits, second.logits], 1))
    assert (found[0] - found[1]).abs().max() < 1e-10 * found[0].abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_stem_table_and_head_stay(name: str) -> None:
    before, after = models.shuffled(name, 0), rotated(name, recipe(name))
    assert after.proj_out.weight is after.get_decoder().embed_tokens.weight
    changed = {path for path, value in before.named_parameters() if not torch.equal(value, after.get_parameter(path))}
    structure = family(name).structure(before.config)
    linears = set(structure.components()) - {structure.table}
    norms = {step.norm for step in structure.shared_inputs() if step.norm}
    assert {path.rsplit(".", 1)[0] for path in changed} == linears | norms
    for norm in norms:
        assert (after.get_submodule(norm).weight == 1).all()
    # Two products in the decoder, which undo each other, and one in the encoder.
    added = {path: value for path, value in after.named_parameters() if path not in dict(before.named_parameters())}
    first, last = f"{structure.decoder[0].path}.rotation.weight", f"{structure.decoder_norm}.rotation.weight"
    assert set(added) == {f"{structure.encoder[0].path}.rotation.weight", first, last}
    assert torch.equal(added[first], added[last].T)


@pytest.mark.parametrize("name", NAMES)
def test_a_loud_channel_is_spread_over_all(name: str) -> None:
    """What a layer reads of a stream with one loud channel has no loud channel any more."""
    peaks = []
    for turn in (False, True):
        model = models.shuffled(name, 0)
        structure = family(name).structure(model.config)
        with torch.no_grad():
            for path in structure.encoder[0].writers:
                model.get_submodule(path).weight[7] *= 20
        if turn:
            rotate(model, structure, recipe(name))
        inputs: list[torch.Tensor] = []
        reader = model.get_submodule(structure.encoder[1].readers[0].paths[0])
        reader.register_forward_pre_hook(lambda _, args, inputs=inputs: inputs.append(args[0]))
        # Without its gain, as the rotated model has it.
        with torch.no_grad():
            model.get_submodule(structure.encoder[1].readers[0].norm).weight.fill_(1)
        logits(model, name)
        peaks.append(float(inputs[0].abs().max() / inputs[0].square().mean().sqrt()))
    assert peaks[1] < 0.8 * peaks[0]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_stored_in_float16_holds_float16(name: str) -> None:
    chosen = {c: weights({"method": "rotation"}) for c in ("encoder", "decoder")}
    wide = {"cross_attention": {"bits": 16, "granularity": "channel"}, "embedding": FLOAT}
    model = rotated(name, built(name, {**chosen, **wide}, stem=16))
    structure = family(name).structure(model.config)
    modules = [model.get_submodule(path) for path in structure.cross.paths]
    modules.append(model.get_submodule(f"{structure.encoder[0].path}.rotation"))
    for module in modules:
        assert torch.equal(module.weight.half().float(), module.weight)
    assert not torch.equal(modules[0].weight, models.shuffled(name, 0).get_submodule(structure.cross.paths[0]).weight)
    expected = logits(models.shuffled(name, 0), name)
    assert (logits(model, name) - expected).abs().max() < 1e-2 * expected.abs().max()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [(), ("awq",), ("smoothquant", "qep"), ("awq", "rsq", "qep")])
def test_without_rounding_nothing_is_left_but_identities(
    name: str, steps: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rotation composes: norms whose gains were folded take scales again, and the driver's streams see it all."""
    monkeypatch.setattr("edge_asr_deploy.ptq.driver.round_together", lambda *_: [])
    turned = weights({"method": "rotation"}, *({"method": m} for m in steps), quantizer="gptq")
    model = models.shuffled(name, 0)
    chosen = built(name, {c: FLOAT if c == "embedding" else turned for c in COMPONENTS})
    quantize(model, family(name), chosen, models.samples(name, 3))
    expected = logits(models.shuffled(name, 0), name)
    assert (logits(model, name) - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_rotated_matrices_are_what_is_rounded(name: str) -> None:
    chosen = recipe(name, seed=5)
    model = models.shuffled(name, 0)
    found = quantize(model, family(name), chosen)
    unrounded = rotated(name, chosen)
    for weight in found:
        assert weight.method == "rotation+rtn"
        original = unrounded.get_submodule(weight.name).weight.detach().numpy()
        assert np.array_equal(weight.dequantize(), model.get_submodule(weight.name).weight.detach().numpy())
        assert np.abs(weight.dequantize() - original).mean() < 0.2 * np.abs(original).mean(), weight.name


def test_rotation_alone_needs_no_speech() -> None:
    chosen = recipe("whisper")
    assert not needs_samples(chosen) and not needs_statistics(chosen.component("encoder"))


def test_heads_that_share_values_are_not_rotated() -> None:
    config = MoonshineConfig(
        vocab_size=models.VOCABULARY,
        hidden_size=36,
        intermediate_size=72,
        encoder_num_hidden_layers=1,
        decoder_num_hidden_layers=1,
        encoder_num_attention_heads=2,
        decoder_num_attention_heads=2,
        encoder_num_key_value_heads=1,
    )
    model = MoonshineForConditionalGeneration(config).eval()
    structure = family("moonshine").structure(config)
    before = [model.get_submodule(f"model.{half}.layers.0.self_attn.v_proj").weight.clone() for half in ("encoder",)]
    rotate(model, structure, recipe("moonshine", SIDES[0]))
    turn = rotation(36, 0).float()
    after = model.get_submodule("model.encoder.layers.0.self_attn.v_proj").weight
    assert torch.allclose(after, before[0] @ turn, atol=1e-5)


@pytest.mark.parametrize(
    ("components", "message"),
    [
        ({"encoder": [{"method": "awq"}, {"method": "rotation"}]}, r"encoder.weights.steps .*: rotation .* before awq"),
        ({"encoder": [{"method": "rotation"}] * 2}, r"encoder.weights.steps .*: rotation applies once"),
        ({"decoder": [{"method": "qep"}, {"method": "rsq"}]}, r"decoder.weights.steps .*: qep .* behind rsq"),
        ({"encoder": [{"method": "rotation"}]}, r"cross_attention.weights.steps: .* the same rotation, or neither"),
        (
            {"cross_attention": [{"method": "rotation"}]},
            r"cross_attention.weights.steps: reads the encoder's output: .* or neither",
        ),
        (
            {"encoder": [{"method": "rotation"}], "cross_attention": [{"method": "rotation", "seed": 1}]},
            r"cross_attention.weights.steps: .* the same rotation",
        ),
        ({"decoder": [{"method": "rotation", "angle": 1}]}, r"steps\.0\.angle: no such key; allowed .* seed, heads"),
        ({"embedding": [{"method": "rotation"}]}, r"embedding.weights.steps rotation: the tied table"),
    ],
)
def test_rotations_that_do_not_fit_are_named(components: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        built("whisper", {c: weights(*steps) for c, steps in components.items()})
