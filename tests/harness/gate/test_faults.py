"""Each fault that a re-export can bring is caught by a check that names it; the good bundle passes, twice in a row."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
from onnx import helper, numpy_helper

from edge_asr_deploy.bundle.manifest import read_manifest
from tests.support.gate_faults import (
    checked,
    failed,
    float_encoder,
    good_bundle_passes_twice,
    is_caught,
    second_decoder_file_is_found,
    slower,
    truncate,
    truncated_file_is_found,
)
from tests.support.gated import DECODER, ENCODER, Gated, edit_graph


def test_the_good_bundle_passes_twice_in_a_row(gated: Gated) -> None:
    good_bundle_passes_twice(gated)


def test_a_second_decoder_file(gated: Gated, tmp_path: Path) -> None:
    second_decoder_file_is_found(gated, tmp_path)


def test_a_truncated_file(gated: Gated, tmp_path: Path) -> None:
    truncated_file_is_found(gated, tmp_path)


def corrupt_a_scale(model: onnx.ModelProto) -> None:
    """One group of one output channel of the last layer becomes a thousand times larger."""
    scales = next(t for t in model.graph.initializer if t.name.endswith("layers.1/fc2/weight/scales"))
    values = numpy_helper.to_array(scales).copy()
    values[0, 5] *= 1000
    scales.CopyFrom(numpy_helper.from_array(values, scales.name))


def test_one_corrupted_scale(gated: Gated, tmp_path: Path) -> None:
    found = checked(gated, gated.altered(tmp_path, edit_graph(DECODER, corrupt_a_scale)))
    assert failed(found) >= {"tokens", "wer"}
    assert found["files"].verdict == found["operators"].verdict == "passed", "only what it says gives it away"


def test_weights_silently_left_float(gated: Gated, tmp_path: Path) -> None:
    found = checked(gated, gated.altered(tmp_path, float_encoder(gated)))
    assert failed(found) >= {"kernels", "operators", "size"}
    assert "12 integer matrices run in float" in found["kernels"].note


def test_weights_left_float_that_the_manifest_admits(gated: Gated, tmp_path: Path) -> None:
    own = [layer for layer in read_manifest(gated.bundle).layers if layer.component != "encoder"]
    wide = [layer for layer in read_manifest(gated.float_bundle).layers if layer.component == "encoder"]
    found = checked(gated, gated.altered(tmp_path, float_encoder(gated), layers=[*own, *wide]))
    assert "layers" in failed(found)
    assert found["kernels"].verdict == "passed", "the manifest wants no kernel there"


def test_a_matrix_twice_in_one_file(gated: Gated, tmp_path: Path) -> None:
    def copy(model: onnx.ModelProto) -> None:
        largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        again = model.graph.initializer.add()
        again.CopyFrom(largest)
        again.name = "again"

    found = checked(gated, gated.altered(tmp_path, edit_graph(DECODER, copy)))
    assert "stored-once" in failed(found)
    assert "again" in found["stored-once"].note


def widen(model: onnx.ModelProto) -> None:
    """A Neg before and after the product: the same numbers, but the matrix is no longer taken by the low-bit kernel."""
    graph = model.graph
    index, node = next((i, n) for i, n in enumerate(graph.node) if n.op_type == "DequantizeLinear")
    wide = node.output[0]
    user = next(n for n in graph.node if wide in n.input)
    user.input[list(user.input).index(wide)] = f"{wide}/negative"
    result = user.output[0]
    user.output[0] = f"{result}/negative"
    graph.node.insert(index + 1, helper.make_node("Neg", [wide], [f"{wide}/negative"], f"{wide}/Neg"))
    after = list(graph.node).index(user) + 1
    graph.node.insert(after, helper.make_node("Neg", [f"{result}/negative"], [result], f"{result}/Neg"))


def test_a_low_bit_matrix_fallen_back_to_float(gated: Gated, tmp_path: Path) -> None:
    found = checked(gated, gated.altered(tmp_path, edit_graph(ENCODER, widen)))
    assert failed(found) >= {"kernels", "dequantize", "operators"}
    assert found["size"].verdict == "passed"


def test_a_graph_that_is_a_fifth_slower(gated: Gated, tmp_path: Path) -> None:
    bundle = gated.altered(tmp_path, edit_graph(ENCODER, slower(gated.bundle, 0.22)))
    found = checked(gated, bundle, speed=True)
    assert is_caught(found["speed-encoder"])
    assert not failed(found) & {"tokens", "wer", "kernels", "speed-step"}


def test_a_changed_tokenizer(gated: Gated, tmp_path: Path) -> None:
    def rename(folder: Path) -> None:
        path = folder / "tokenizer.json"
        path.write_text(path.read_text().replace("▁w21", "▁w021"))

    found = checked(gated, gated.altered(tmp_path, rename))
    assert failed(found) >= {"side-files"}
    assert "tokenizer.json was changed" in found["side-files"].note
    assert found["tokens"].verdict == "passed"


def test_a_side_file_that_is_missing(gated: Gated, tmp_path: Path) -> None:
    found = checked(gated, gated.altered(tmp_path, lambda folder: (folder / "generation_config.json").unlink()))
    assert "generation_config.json is missing" in found["side-files"].note


def test_a_truncated_file_that_the_manifest_vouches_for(gated: Gated, tmp_path: Path) -> None:
    found = checked(gated, gated.altered(tmp_path, truncate))
    assert "files" in failed(found) and "is no ONNX file" in found["files"].note
    assert found["tokens"].verdict == "not measured"


def test_a_broken_manifest(gated: Gated, tmp_path: Path) -> None:
    def break_it(folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))

    assert failed(checked(gated, gated.altered(tmp_path, break_it, rehash=False))) == {"files"}
