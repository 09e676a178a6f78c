"""Int8 activations: integer kernels in the optimized graph, and the very numbers of PyTorch's fake quantization."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("optimum.onnxruntime")

from edge_asr_deploy.errors import UserError  # noqa: E402
from edge_asr_deploy.families import family  # noqa: E402
from edge_asr_deploy.graph.build import MERGED  # noqa: E402
from edge_asr_deploy.graph.onnx_tools.builder import Builder  # noqa: E402
from edge_asr_deploy.graph.onnx_tools.trace import ENCODER  # noqa: E402
from edge_asr_deploy.graph.storing.integer import INTEGER_KERNELS, int8_matrix, integer_matmul, round_input  # noqa: E402
from edge_asr_deploy.proof.layers import relative  # noqa: E402
from edge_asr_deploy.proof.verify import check_agreement, check_files, check_operators  # noqa: E402
from edge_asr_deploy.ptq.activations import quantize_activations, rounded  # noqa: E402
from edge_asr_deploy.ptq.quantize import quantize  # noqa: E402
from edge_asr_deploy.ptq.rounding import round_together  # noqa: E402
from edge_asr_deploy.ptq.stem import narrow_in_place  # noqa: E402
from edge_asr_deploy.quantized.inputs import Dynamic, InputRounding, Static, affine, per_row  # noqa: E402
from edge_asr_deploy.quantized.scales import TwoLevelScales  # noqa: E402
from edge_asr_deploy.quantized.weight import QuantizedWeight  # noqa: E402
from edge_asr_deploy.recipe.document import Recipe, parse  # noqa: E402
from edge_asr_deploy.recipe.weights import WeightSpec  # noqa: E402
from tests.support.graphs import agreement_of, build  # noqa: E402
from tests.support.optimized import operators  # noqa: E402
from tests.support.small_graphs import FLOAT, matmul, quantized, run, save  # noqa: E402
from tests.support.tiny import MODELS  # noqa: E402
from tests.support.tiny_samples import sample  # noqa: E402

DYNAMIC, STATIC = Dynamic(), affine(-3.5, 4)
TOKEN, GELU = per_row(), per_row(-0.17)
ACTIVATIONS = pytest.mark.parametrize(
    "activation", [DYNAMIC, STATIC, TOKEN, GELU], ids=["dynamic", "static", "token", "token of GELU"]
)
W8 = {"bits": 8, "granularity": "channel", "symmetric": True}
W4 = {"bits": 4, "granularity": "group:16", "storage": "two-level"}


def weight_of(bits: int, group: int | None, symmetric: bool, rows: int = 256, columns: int = 288) -> QuantizedWeight:
    """Rounded normal numbers; in groups, on a two-level grid."""
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(bits))
    granularity = "channel" if group is None else f"group:{group}"
    storage = "plain" if group is None else "two-level"
    spec = WeightSpec(bits=bits, symmetric=symmetric, granularity=granularity, storage=storage)
    return round_together({"layer": matrix}, "encoder", spec, None)[0]


FORMS = [(8, None, True), (5, None, False), (4, 32, True), (4, 32, False), (3, 128, False), (7, 64, True)]


@pytest.mark.parametrize(("bits", "group", "symmetric"), FORMS)
@ACTIVATIONS
def test_every_form_runs_in_one_integer_kernel_and_is_exact(
    tmp_path: Path, bits: int, group: int | None, symmetric: bool, activation: InputRounding
) -> None:
    weight = weight_of(bits, group, symmetric)
    path = layers(tmp_path / "m.onnx", [weight], activation)
    counts = operators(path)
    if activation is DYNAMIC:
        assert counts == Counter({"DynamicQuantizeMatMul": 1})
    else:
        assert (counts["QuantizeLinear"], counts[INTEGER_KERNELS[1]], counts["MatMul"]) == (1, 1, 0)
    x = np.random.default_rng(0).normal(size=(2, 5, 288)).astype(np.float32)
    x[0, 1] *= 30
    if activation is GELU:
        x = torch.nn.functional.gelu(torch.from_numpy(x)).numpy()
    expected = rounded(torch.from_numpy(x), activation).numpy() @ weight.dequantize().T
    np.testing.assert_allclose(run(path, {"x": x})[0], expected, atol=2e-5 * np.abs(expected).max())


@ACTIVATIONS
def test_layers_that_share_an_input_round_it_once(tmp_path: Path, activation: InputRounding) -> None:
    weights = [weight_of(bits, None, True) for bits in (8, 7, 6)]
    counts = operators(layers(tmp_path / "m.onnx", weights, activation))
    assert counts["MatMulIntegerToFloat"] == 3
    assert counts["DynamicQuantizeLinear"] + counts["QuantizeLinear"] == 1


@pytest.mark.parametrize(("bits", "symmetric"), [(4, True), (4, False), (3, True)])
def test_two_level_codes_cost_their_bits_a_multiplier_a_group_and_a_scale_a_channel(
    tmp_path: Path, bits: int, symmetric: bool
) -> None:
    weight = weight_of(bits, 32, symmetric)
    assert isinstance(weight.scales, TwoLevelScales)
    groups = weight.scales.multipliers.size
    expected = weight.codes.size * bits / 8 + groups * (8 - bits + (0 if symmetric else bits)) / 8 + 2 * 256
    assert expected <= layers(tmp_path / "m.onnx", [weight], DYNAMIC).stat().st_size <= expected + 6000


def test_two_level_codes_with_float_activations_run_in_the_low_bit_kernel(tmp_path: Path) -> None:
    weight = weight_of(4, 32, True)
    path = matmul(tmp_path / "m.onnx", weight)
    assert operators(path) == Counter({"MatMulNBits": 1})
    x = np.random.default_rng(0).normal(size=(1, 3, 288)).astype(np.float32)
    expected = x @ weight.dequantize().T
    np.testing.assert_allclose(run(path, {"x": x})[0], expected, atol=1e-4 * np.abs(expected).max())


def test_codes_that_do_not_fit_int8_are_refused() -> None:
    with pytest.raises(UserError, match="do not fit int8"):
        int8_matrix(Builder("layer"), quantized(32, 64, 8, None, symmetric=False))
    with pytest.raises(UserError, match="one scale per output channel"):
        int8_matrix(Builder("layer"), quantized(32, 64, 4, 32, symmetric=True))
    weight = weight_of(4, 32, True)
    assert isinstance(weight.scales, TwoLevelScales)
    scales = replace(weight.scales, multipliers=weight.scales.multipliers + np.uint8(16))
    with pytest.raises(UserError, match="multiplier"):
        int8_matrix(Builder("layer"), replace(weight, scales=scales))


def int8_recipe(name: str, kind: str, weights: dict[str, Any], skip: tuple[str, ...] = ()) -> Recipe:
    """`int8-token`: a scale for each row in every layer."""
    activations = {"kind": "int8-dynamic", "token": ["*"]} if kind == "int8-token" else {"kind": kind}
    parts: dict[str, Any] = {
        c: {"weights": weights, "activations": activations} for c in ("cross_attention", "decoder")
    }
    parts["encoder"] = {"weights": weights, "activations": {**activations, "skip": skip}}
    return parse({"name": f"{name}-a8", "family": name, **parts}, "test")


def exported(
    name: str, recipe: Recipe, folder: Path, zero: tuple[str, ...] = ()
) -> tuple[Any, list[QuantizedWeight], list[Any]]:
    """A model whose layers at the `zero` paths put out zeros, its weights, and what is stored."""
    model, samples = MODELS[name](), [sample(name)]
    for path in zero:
        for parameter in model.get_submodule(path).parameters():
            parameter.data.zero_()
    structure = family(name).structure(model.config)
    narrow_in_place(model, structure.components(), recipe)
    weights = quantize(model, family(name), recipe, samples)
    weights = quantize_activations(model, structure, recipe, weights, samples)
    return model, weights, build(model, recipe, weights, folder)


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
@pytest.mark.parametrize(
    ("kind", "spec"),
    [("int8-dynamic", W4), ("int8-static", W8), ("int8-token", W4)],
    ids=["w4 dynamic", "w8 static", "w4 token"],
)
def test_a_model_runs_in_integer_kernels_and_is_the_fake_quantized_one(
    name: str, kind: str, spec: dict[str, Any], tmp_path: Path
) -> None:
    model, weights, stored = exported(name, int8_recipe(name, kind, spec), tmp_path)
    check_files(tmp_path)
    counts = check_operators(tmp_path, stored)
    for file, inside in ((ENCODER, ("encoder",)), (MERGED, ("cross_attention", "decoder"))):
        expected = sum(layer.component in inside for layer in stored)
        assert sum(counts[file][kernel] for kernel in INTEGER_KERNELS) == expected > 0
    assert (counts[ENCODER]["MatMulNBits"], counts[MERGED]["MatMulNBits"]) == (0, 1), "the tied table stays low-bit"
    assert {layer.activations for layer in stored if layer.component == "cross_attention"} == {kind}
    agreement = agreement_of(model, tmp_path, [sample(name)], weights)
    check_agreement(agreement)
    assert agreement.layers is not None and agreement.layers < 1e-5
    assert agreement.excess is not None and agreement.excess < 1.1
    with pytest.raises(UserError, match="int8"):
        check_agreement(agreement_of(MODELS[name](seed=1), tmp_path, [sample(name)], weights))


def test_a_layer_whose_outputs_are_all_zero_is_proved(tmp_path: Path) -> None:
    zero = ("model.encoder.layers.1.fc2", "model.decoder.layers.0.fc2")
    model, weights, _ = exported("whisper", int8_recipe("whisper", "int8-dynamic", W4), tmp_path, zero)
    agreement = agreement_of(model, tmp_path, [sample("whisper")], weights)
    check_agreement(agreement)
    assert agreement.layers is not None and agreement.layers < 1e-5


@pytest.mark.parametrize(("difference", "largest", "share"), [(0, 0, 0), (1, 0, math.inf), (1, 4, 0.25)])
def test_a_difference_from_zero_is_infinite(difference: float, largest: float, share: float) -> None:
    assert relative(difference, largest) == share


def test_a_skipped_layer_runs_in_the_low_bit_kernel_and_a_float_one_is_found(tmp_path: Path) -> None:
    _, _, stored = exported("whisper", int8_recipe("whisper", "int8-dynamic", W4, ("*.layers.1.fc2",)), tmp_path)
    assert check_operators(tmp_path, stored)[ENCODER]["MatMulNBits"] == 1
    skipped = next(layer for layer in stored if layer.name == "model.encoder.layers.1.fc2")
    assert (skipped.activations, skipped.storage) == ("float", "two-level")
    promised = [
        layer.model_copy(update={"activations": "int8-dynamic"}) if layer is skipped else layer for layer in stored
    ]
    with pytest.raises(UserError, match="kernel"):
        check_operators(tmp_path, promised)


@pytest.mark.parametrize("changed", ["scale", "zero point"])
def test_a_layer_with_another_range_than_pytorchs_is_found(changed: str, tmp_path: Path) -> None:
    model, weights, _ = exported("whisper", int8_recipe("whisper", "int8-static", W8), tmp_path)
    index = next(i for i, w in enumerate(weights) if w.name == "model.encoder.layers.1.fc1")
    inputs = weights[index].inputs
    assert isinstance(inputs, Static)
    others = {
        "scale": replace(inputs, scale=inputs.scale * np.float32(1.01)),
        "zero point": replace(inputs, zero_point=inputs.zero_point + 1),
    }
    weights[index] = replace(weights[index], inputs=others[changed])
    with pytest.raises(UserError, match="int8 layers"):
        check_agreement(agreement_of(model, tmp_path, [sample("whisper")], weights))


def layers(path: Path, weights: list[QuantizedWeight], activation: InputRounding) -> Path:
    """A graph of Linears that read one input `x` (batch, steps, in)."""
    x = ir.Value(name="x", type=FLOAT, shape=ir.Shape(["batch", "steps", weights[0].shape[1]]))
    whole = Builder("layers")
    inputs = round_input(whole, x, activation)
    outputs = {}
    for number, weight in enumerate(weights):
        part = Builder(f"layer{number}")
        outputs[f"y{number}"] = (integer_matmul(part, inputs, weight), ["batch", "steps", weight.shape[0]])
        whole.nodes += part.nodes
        whole.initializers += part.initializers
    return save(path, whole, [x], outputs)
