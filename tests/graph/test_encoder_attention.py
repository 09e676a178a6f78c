"""The encoder's attention in blocks, its convolutions and their products of integers: the numbers of PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("optimum.onnxruntime")

from edge_asr_deploy.errors import UserError  # noqa: E402
from edge_asr_deploy.families import family  # noqa: E402
from edge_asr_deploy.families.structure import AttentionShape  # noqa: E402
from edge_asr_deploy.graph.onnx_tools.builder import Builder  # noqa: E402
from edge_asr_deploy.graph.onnx_tools.trace import ENCODER  # noqa: E402
from edge_asr_deploy.graph.rewriting.encoder_attention import float_attention, int8_attention, split_queries  # noqa: E402
from edge_asr_deploy.proof.fake_int8 import attend, block_sizes, fake_int8  # noqa: E402
from edge_asr_deploy.proof.verify import check_agreement, check_files, check_operators  # noqa: E402
from edge_asr_deploy.ptq.activations import quantize_activations  # noqa: E402
from edge_asr_deploy.ptq.quantize import quantize  # noqa: E402
from edge_asr_deploy.ptq.stem import narrow_in_place  # noqa: E402
from edge_asr_deploy.quantized.model import Int8Attention  # noqa: E402
from edge_asr_deploy.recipe.document import Recipe, parse  # noqa: E402
from tests.support.graphs import agreement_of, build, quantized  # noqa: E402
from tests.support.small_graphs import run, save  # noqa: E402
from tests.support.tiny import MODELS  # noqa: E402
from tests.support.tiny_samples import sample  # noqa: E402

SHAPE = AttentionShape(layers=1, heads=3, head_dim=16, output="out_proj")
CHANNELS = SHAPE.heads * SHAPE.head_dim
BLOCKS = 6


def attention_graph(path: Path, kind: str, masked: bool) -> Path:
    """Queries, keys and values (batch, frames, channels), and a mask (batch, 1, 1, frames) where there is one."""
    tensors = [
        ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["batch", "frames", CHANNELS]))
        for name in "qkv"
    ]
    mask = ir.Value(name="mask", type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape(["batch", 1, 1, "frames"]))
    builder = Builder("/attention")
    frames = builder.op("Shape", tensors[0], start=1, end=2)
    blocks = split_queries(builder, frames, mask if masked else None, Int8Attention(BLOCKS) if kind == "int8" else None)
    attend_in_graph = int8_attention if kind == "int8" else float_attention
    output = attend_in_graph(builder, *tensors, blocks, SHAPE)
    shown = {"y": (output, ["batch", "frames", CHANNELS])}
    return save(path, builder, [*tensors, mask] if masked else tensors, shown)


def spoken(frames: int, batch: int = 1) -> list[np.ndarray]:
    generator = np.random.default_rng(frames)
    return [generator.normal(size=(batch, frames, CHANNELS)).astype(np.float32) * scale for scale in (3, 1, 2)]


def cut(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).unflatten(-1, (SHAPE.heads, SHAPE.head_dim)).transpose(1, 2)


def exact(tensors: list[np.ndarray], mask: np.ndarray | None = None) -> np.ndarray:
    bias = None if mask is None else torch.from_numpy(mask)
    heads = torch.nn.functional.scaled_dot_product_attention(*map(cut, tensors), attn_mask=bias)
    return heads.transpose(1, 2).flatten(2).numpy()


@pytest.mark.parametrize(
    ("kind", "frames"), [("float", BLOCKS), ("float", 100), *(("int8", n) for n in (1, BLOCKS - 1, BLOCKS, 13, 100))]
)
def test_any_number_of_frames_is_attended_for(tmp_path: Path, kind: str, frames: int) -> None:
    tensors = spoken(frames)
    (found,) = run(attention_graph(tmp_path / "m.onnx", kind, False), dict(zip("qkv", tensors, strict=True)))
    expected = exact(tensors)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=(1e-5 if kind == "float" else 0.05) * np.abs(expected).max())


def test_what_all_values_have_in_common_costs_no_precision(tmp_path: Path) -> None:
    query, key, value = spoken(40)
    path = attention_graph(tmp_path / "m.onnx", "int8", False)
    (plain,) = run(path, {"q": query, "k": key, "v": value})
    (moved,) = run(path, {"q": query, "k": key, "v": value + np.float32(50)})
    np.testing.assert_allclose(moved - 50, plain, atol=0.01 * np.abs(plain).max())


@pytest.mark.parametrize("frames", [4, 40])
@pytest.mark.parametrize("kind", ["float", "int8"])
def test_masked_frames_are_not_attended_to(tmp_path: Path, kind: str, frames: int) -> None:
    tensors = spoken(frames, batch=2)
    mask = np.ones((2, 1, 1, frames), dtype=bool)
    mask[1, ..., 3 * frames // 4 :] = False
    path = attention_graph(tmp_path / "m.onnx", kind, True)
    (found,) = run(path, {**dict(zip("qkv", tensors, strict=True)), "mask": mask})
    tensors[2][1, 3 * frames // 4 :] = 0
    (changed,) = run(path, {**dict(zip("qkv", tensors, strict=True)), "mask": mask})
    np.testing.assert_allclose(found, changed, atol=1e-5 if kind == "float" else 0.1)
    expected = exact(tensors, mask)
    np.testing.assert_allclose(found, expected, atol=(1e-5 if kind == "float" else 0.05) * np.abs(expected).max())


def test_integer_products_are_those_of_pytorch(tmp_path: Path) -> None:
    tensors = spoken(101)
    (found,) = run(attention_graph(tmp_path / "m.onnx", "int8", False), dict(zip("qkv", tensors, strict=True)))
    expected = attend(*map(cut, tensors), SHAPE.head_dim**-0.5, BLOCKS).transpose(1, 2).flatten(2).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
    assert np.abs(expected - exact(tensors)).max() > 2 * np.abs(expected - found).max(), "they do round"


def test_rows_that_attend_to_many_frames_alike_are_not_lost() -> None:
    # All shares are 1 / 1000 or 0: on one scale for all rows, 1 / 255, each would be nothing.
    query, key, value = torch.zeros(1, 1, 2000, 8), torch.zeros(1, 1, 2000, 8), torch.rand(1, 1, 2000, 8)
    value[0, 0, :1000] += 1
    key[0, 0, :1000, 0] = 1
    query[0, 0, 1:, 0], query[0, 0, 0, 0] = 30, 50
    found = attend(query, key, value, 1.0, BLOCKS)
    torch.testing.assert_close(found[0, 0, 1:], value[0, 0, :1000].mean(0).expand(1999, 8), rtol=0.01, atol=0.01)


def test_blocks_are_of_one_size_but_the_last() -> None:
    assert block_sizes(1500, 12) == [125] * 12
    assert block_sizes(20, 6) == [3, 3, 3, 3, 3, 5]
    assert sum(block_sizes(4, 6)) == 4


def int8_recipe(name: str) -> Recipe:
    coded = {"bits": 4, "granularity": "group:16", "storage": "two-level"}
    document = {
        "name": f"{name}-int8",
        "family": name,
        "encoder": {"weights": coded, "activations": "int8-dynamic", "attention": "int8"},
        "stem": {"bits": 8, "activations": "int8-dynamic" if name == "whisper" else "float"},
    }
    return parse(document, "test")


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_an_encoder_of_integers_is_proved(name: str, tmp_path: Path) -> None:
    recipe = int8_recipe(name)
    model = MODELS[name]()
    structure = family(name).structure(model.config)
    narrow_in_place(model, structure.components(), recipe)
    weights = quantize_activations(model, structure, recipe, quantize(model, family(name), recipe, []))
    layers = build(model, recipe, weights, tmp_path)
    check_files(tmp_path)
    attention = Int8Attention(family(name).attention_blocks)
    counts = check_operators(tmp_path, layers, attention=attention)[ENCODER]
    assert counts["MatMulNBits"] == counts["Attention"] == 0
    assert counts["Conv"] + counts["FusedConv"] == (0 if name == "whisper" else 3)
    agreement = agreement_of(model, tmp_path, [sample(name)], weights, recipe=recipe)
    check_agreement(agreement)
    assert agreement.attention is not None and agreement.attention > 0
    with pytest.raises(UserError, match="int8 products"):
        check_operators(tmp_path, layers)


def test_a_wrong_attention_is_noticed(tmp_path: Path) -> None:
    recipe = int8_recipe("whisper")
    model = MODELS["whisper"]()
    narrow_in_place(model, family("whisper").structure(model.config).components(), recipe)
    structure = family("whisper").structure(model.config)
    weights = quantize_activations(model, structure, recipe, quantize(model, family("whisper"), recipe, []))
    build(model, recipe, weights, tmp_path)
    graph = ir.load(tmp_path / ENCODER)
    scales = [value for value in graph.graph.initializers.values() if "core/" in str(value.name)]
    scale = next(v for v in scales if v.const_value.size == 1 and np.isclose(v.const_value.numpy(), 8**-0.5))
    scale.const_value = ir.tensor(scale.const_value.numpy() * np.float32(1.5), name=scale.name)
    ir.save(graph, tmp_path / ENCODER)
    with pytest.raises(UserError, match="attention"):
        check_agreement(agreement_of(model, tmp_path, [sample("whisper")], weights, recipe=recipe))


def test_attention_is_float_again_afterwards() -> None:
    model = MODELS["whisper"]()
    inputs = sample("whisper").inputs
    with torch.no_grad():
        before = model.get_encoder()(inputs).last_hidden_state
        with fake_int8(model, quantized(model, int8_recipe("whisper"), [])):
            inside = model.get_encoder()(inputs).last_hidden_state
        after = model.get_encoder()(inputs).last_hidden_state
    assert torch.equal(before, after) and not torch.equal(before, inside)


@pytest.mark.parametrize("name", ["whisper", "moonshine"])
def test_convolutions_round_every_window_on_its_own_scale(name: str, tmp_path: Path) -> None:
    stem = {"bits": 8, "activations": "int8-token"}
    half = {name: {"weights": {"bits": 16}} for name in ("encoder", "cross_attention", "decoder", "embedding")}
    recipe = parse({"name": "a", "family": name, "stem": stem, **half}, "test")
    model = MODELS[name]()
    narrow_in_place(model, family(name).structure(model.config).components(), recipe)
    layers = build(model, recipe, [], tmp_path)
    check_files(tmp_path)
    found = check_operators(tmp_path, layers)[ENCODER]["MatMulIntegerToFloat"]
    assert found == 2, "a waveform stays float"
    agreement = agreement_of(model, tmp_path, [sample(name)], [], recipe=recipe)
    check_agreement(agreement)
    assert agreement.layers is not None and agreement.layers < 1e-5
    assert agreement.excess is not None and agreement.excess < 1.1


def test_convolutions_multiply_integers_where_they_have_a_form_for_it() -> None:
    stem = {"stem": {"bits": 8, "activations": "int8-dynamic"}}
    assert parse({"name": "a", "family": "whisper", **stem}, "test").stem.activations == "int8-dynamic"
    with pytest.raises(UserError, match="Moonshine"):
        parse({"name": "a", "family": "moonshine", **stem}, "test")
    with pytest.raises(UserError, match="no integer kernel"):
        parse({"name": "a", "family": "whisper", "stem": {"bits": 16, "activations": "int8-dynamic"}}, "test")
