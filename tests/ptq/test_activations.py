"""Activations in 8 bits: ranges from speech, rounding as ONNX defines it, layers that stay float."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the exporter is not installed: pip install edge-asr-deploy[export]")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import family
from edge_asr_deploy.ptq.activations import (
    fake_activations,
    quantize_activations,
    rounded,
)
from edge_asr_deploy.ptq.calibration.ranges import Observed, extremes
from edge_asr_deploy.ptq.needs import needs_samples
from edge_asr_deploy.ptq.quantize import quantize
from edge_asr_deploy.quantized.inputs import Dynamic, InputRounding, affine, per_row
from edge_asr_deploy.recipe.activations import ActivationSpec
from edge_asr_deploy.recipe.document import Recipe, parse
from edge_asr_deploy.recipe.rules import check_skips
from tests.support import short as models

NAMES = ("whisper", "moonshine")
DYNAMIC = Dynamic()
W8 = {"bits": 8, "granularity": "channel", "symmetric": True}


def recipe(name: str, activations: object, **more: object) -> Recipe:
    parts = {c: {"weights": W8, "activations": activations} for c in ("encoder", "cross_attention", "decoder")}
    return parse({"name": "test", "family": name, **parts, **more}, "test")


def observed(*utterances: torch.Tensor) -> Observed:
    result = Observed()
    for values in utterances:
        result.add(values)
    return result


def static(calibrator: str, **options: Any) -> ActivationSpec:
    return ActivationSpec.model_validate({"kind": "int8-static", "calibrator": calibrator, **options})


def test_minmax_is_of_all_and_average_the_mean_of_the_utterances_extremes() -> None:
    seen = observed(torch.tensor([-1.0, 4.0]), torch.tensor([-3.0, 2.0]))
    assert extremes(seen, static("minmax")) == (-3, 4)
    assert extremes(seen, static("average")) == (-2, 3)


@pytest.mark.parametrize("calibrator", ["minmax", "average", "percentile", "mse"])
@pytest.mark.parametrize("shift", [-9.0, 0.0, 9.0])
def test_every_range_holds_zero(calibrator: str, shift: float) -> None:
    values = torch.randn(4000, generator=torch.Generator().manual_seed(0)) + shift
    low, high = extremes(observed(values), static(calibrator))
    assert low <= 0 <= high and low < high


def test_percentile_cuts_the_rarest_of_both_sides() -> None:
    values = torch.linspace(-1, 3, 100_001)
    low, high = extremes(observed(values), static("percentile", percentile=90))
    assert low == pytest.approx(-0.8, abs=2e-3)
    assert high == pytest.approx(2.8, abs=2e-3)


def test_mse_cuts_a_lone_outlier_and_is_the_best_of_the_calibrators() -> None:
    values = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    values[7] = 60
    seen = observed(values[:100_000], values[100_000:])
    errors = {
        c: float((rounded(values, affine(*extremes(seen, static(c)))) - values).square().sum())
        for c in ("minmax", "average", "percentile", "mse")
    }
    assert errors["mse"] < 0.9 * errors["minmax"]
    assert errors["mse"] <= 1.02 * min(errors.values())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.01, 1000), min_size=2, max_size=5))
def test_the_histogram_keeps_every_value_however_much_wider_the_next_utterance_is(strengths: list[float]) -> None:
    parts = [torch.linspace(-1, 1, 101) * s for s in strengths]
    seen = observed(*parts)
    assert seen.counts.sum() == 101 * len(parts)
    middle = (seen.counts * seen.centers).sum() / seen.counts.sum()
    assert abs(float(middle)) < 2 * seen.reach / 1000


def test_a_layer_that_only_ever_reads_zeros_has_a_grid_all_the_same() -> None:
    activation = affine(*extremes(observed(torch.zeros(10)), static("mse")))
    assert torch.equal(rounded(torch.zeros(3), activation), torch.zeros(3))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40))
def test_dynamic_rounding_is_that_of_dynamic_quantize_linear(session: Any, values: list[float]) -> None:
    x = np.array(values, np.float32)
    codes, scale, zero = session.run(None, {"x": x})
    expected = (codes.astype(np.float32) - np.float32(zero)) * scale
    np.testing.assert_array_equal(rounded(torch.from_numpy(x), DYNAMIC).numpy(), expected)


def test_static_rounding_clips_to_its_range_and_keeps_zero() -> None:
    activation = affine(-1, 3)
    values = rounded(torch.tensor([-50.0, 0.0, 0.004, 50.0]), activation)
    assert values[1] == 0
    assert values[0] == pytest.approx(-1, abs=0.008) and values[3] == pytest.approx(3, abs=0.008)


@pytest.mark.parametrize("lowest", [None, -0.17, 0.0], ids=["any sign", "GELU", "ReLU"])
def test_a_row_is_rounded_on_its_own_scale_to_half_a_step(lowest: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 40, 64, generator=generator) * torch.logspace(-3, 3, 40)[:, None]
    values[0, 0] = 0
    if lowest is not None:
        values = torch.nn.functional.gelu(values) if lowest < 0 else values.clamp(min=0)
    activation = per_row(lowest)
    found = rounded(values, activation)
    largest = values.abs().amax(-1, keepdim=True) if lowest is None else values.amax(-1, keepdim=True)
    steps = largest.clamp(min=float(activation.floor)) / (255 - activation.zero_point)
    assert ((found - values).abs() <= steps * 0.5001).all()
    assert torch.equal(rounded(values[1:2, 7:8], activation), found[1:2, 7:8]), "no row depends on another"


def test_inputs_of_gelu_s_readers_use_more_than_its_positive_half() -> None:
    by_rows = {"weights": W8, "activations": {"kind": "int8-dynamic", "token": ["*.fc2"]}}
    model, chosen = models.model("whisper"), recipe("whisper", "int8-dynamic", encoder=by_rows)
    structure = family("whisper").structure(model.config)
    weights = quantize_activations(model, structure, chosen, quantize(model, family("whisper"), chosen))
    found = {w.name: w.inputs for w in weights}
    assert found["model.encoder.layers.0.fc2"] == per_row(-0.17)
    assert found["model.encoder.layers.0.fc1"] == DYNAMIC


def test_rows_have_no_fixed_ranges() -> None:
    with pytest.raises(UserError, match=r"token.*needs kind: int8-dynamic"):
        recipe("whisper", {"kind": "int8-static", "token": ["*"]})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["int8-dynamic", "int8-static", {"kind": "int8-dynamic", "token": ["*"]}], ids=str)
def test_a_model_computes_on_rounded_activations_within_and_on_float_ones_after(name: str, kind: object) -> None:
    model, chosen = models.model(name), recipe(name, kind)
    samples = models.samples(name)
    structure = family(name).structure(model.config)
    weights = quantize_activations(model, structure, chosen, quantize(model, family(name), chosen, samples), samples)
    assert {w.name for w in weights if w.inputs} == set(structure.components()) - {structure.table}
    before = _logits(model, samples[0])
    with fake_activations(model, weights):
        within = _logits(model, samples[0])
    assert 0 < (within - before).norm() < 0.2 * before.norm()
    assert torch.equal(_logits(model, samples[0]), before)


def test_layers_that_share_an_input_share_its_range() -> None:
    weights = _static("whisper")
    attention = "model.encoder.layers.0.self_attn"
    assert weights[f"{attention}.q_proj"] == weights[f"{attention}.v_proj"] != weights[f"{attention}.out_proj"]
    cross = {v for name, v in weights.items() if ".encoder_attn.k_proj" in name or ".encoder_attn.v_proj" in name}
    assert len(cross) == 1


def test_skipped_layers_stay_float() -> None:
    weights = _static("whisper", skip=["*.fc2", "model.encoder.layers.0.self_attn.?_proj"])
    kept = {name for name, activation in weights.items() if activation is None}
    floats = {name for name in weights if name.endswith("fc2")} | {"model.decoder.embed_tokens"}
    assert kept == floats | {f"model.encoder.layers.0.self_attn.{x}_proj" for x in "qkv"}


@pytest.mark.parametrize("key", ["skip", "token"])
def test_a_pattern_that_matches_nothing_is_one_line(key: str) -> None:
    chosen = recipe("whisper", "float", encoder={"weights": W8, "activations": {"kind": "int8-dynamic", key: ["fc2"]}})
    structure = family("whisper").structure(models.model("whisper").config)
    with pytest.raises(UserError, match=rf"encoder\.activations\.{key} 'fc2'.*model\.encoder\.layers\.0") as caught:
        check_skips(chosen, structure)
    assert "\n" not in str(caught.value)


def test_fixed_ranges_need_speech_and_dynamic_ones_do_not() -> None:
    assert needs_samples(recipe("whisper", "int8-static"))
    assert not needs_samples(recipe("whisper", "int8-dynamic"))
    with pytest.raises(UserError, match="no clips"):
        quantize(models.model("whisper"), family("whisper"), recipe("whisper", "int8-static"))


def _static(name: str, **options: Any) -> dict[str, InputRounding | None]:
    model, samples = models.model(name), models.samples(name, 2)
    skip = options.pop("skip", [])
    patterns = {"encoder": skip, "cross_attention": [], "decoder": [p for p in skip if p.startswith("*")]}
    parts = {
        c: {"weights": W8, "activations": {"kind": "int8-static", "skip": p, **options}} for c, p in patterns.items()
    }
    chosen = recipe(name, "float", **parts)
    structure = family(name).structure(model.config)
    weights = quantize(model, family(name), chosen, samples)
    return {w.name: w.inputs for w in quantize_activations(model, structure, chosen, weights, samples)}


def _logits(model: Any, sample: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(sample.inputs, decoder_input_ids=sample.tokens).logits
    return result


@pytest.fixture(scope="module")
def session() -> Any:
    """onnxruntime's DynamicQuantizeLinear."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    info, types = onnx.helper.make_tensor_value_info, onnx.TensorProto
    node = onnx.helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"])
    outputs = [info("y", types.UINT8, ["n"]), info("s", types.FLOAT, []), info("z", types.UINT8, [])]
    graph = onnx.helper.make_graph([node], "g", [info("x", types.FLOAT, ["n"])], outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString())
