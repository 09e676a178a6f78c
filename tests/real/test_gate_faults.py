"""The faults of a re-export on whisper tiny.en at 4 bits, each caught by the check that names it."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from rich.console import Console

from edge_asr_deploy.harness.gate.gate import update
from edge_asr_deploy.harness.gate.options import CheckOptions
from tests.support.fixtures_real import Exporter
from tests.support.gate_faults import (
    checked,
    failed,
    float_encoder,
    good_bundle_passes_twice,
    is_caught,
    second_decoder_file_is_found,
    slower,
    truncated_file_is_found,
)
from tests.support.gated import ENCODER, Gated, edit_graph

pytestmark = [pytest.mark.real_full, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def gated(exported: Exporter, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Gated:
    bundle, float_bundle = exported("whisper-tiny.en", 4), exported("whisper-tiny.en", 32)
    baseline, speech = tmp_path_factory.mktemp("gate") / "record.json", data / "common_voice_en.jsonl"
    options = CheckOptions(baseline=baseline, data=(speech,), float_bundle=str(float_bundle), number=10)
    update([bundle], options, Console(quiet=True))
    return Gated(bundle, float_bundle, baseline, speech)


def test_the_good_bundle_passes_twice_in_a_row(gated: Gated) -> None:
    good_bundle_passes_twice(gated)


def test_a_second_decoder_file(gated: Gated, tmp_path: Path) -> None:
    second_decoder_file_is_found(gated, tmp_path)


def test_a_truncated_file(gated: Gated, tmp_path: Path) -> None:
    truncated_file_is_found(gated, tmp_path)


def test_weights_silently_left_float(gated: Gated, tmp_path: Path) -> None:
    found = checked(gated, gated.altered(tmp_path, float_encoder(gated)))
    assert failed(found) >= {"kernels", "operators", "size"}


def in_float(model: onnx.ModelProto) -> None:
    """One product of bytes becomes a product of floats: the same numbers, another kernel."""
    graph = model.graph
    index, node = next((i, n) for i, n in enumerate(graph.node) if n.op_type == "MatMulInteger" and "fc1" in n.name)
    assert len(node.input) >= 3
    made, operands = [], []
    for side in range(2):
        code = node.input[side]
        made.append(helper.make_node("Cast", [code], [f"{code}/float"], to=TensorProto.FLOAT))
        operands.append(f"{code}/float")
        if len(node.input) > 2 + side and node.input[2 + side]:
            zero = node.input[2 + side]
            made.append(helper.make_node("Cast", [zero], [f"{zero}/float"], to=TensorProto.FLOAT))
            made.append(helper.make_node("Sub", [f"{code}/float", f"{zero}/float"], [f"{code}/shifted"]))
            operands[-1] = f"{code}/shifted"
    result = node.output[0]
    made.append(helper.make_node("MatMul", operands, [f"{result}/float"]))
    made.append(helper.make_node("Cast", [f"{result}/float"], [result], to=TensorProto.INT32))
    graph.node.remove(node)
    for offset, one in enumerate(made):
        one.name = f"redone/{offset}"
        graph.node.insert(index + offset, one)


def test_int8_fallen_back_to_float(gated: Gated, tmp_path: Path) -> None:
    assert failed(checked(gated, gated.altered(tmp_path, edit_graph(ENCODER, in_float)))) >= {"kernels", "operators"}


def test_a_graph_that_is_a_fifth_slower(gated: Gated, tmp_path: Path) -> None:
    bundle = gated.altered(tmp_path, edit_graph(ENCODER, slower(gated.bundle, 0.22)))
    assert is_caught(checked(gated, bundle, speed=True)["speed-encoder"])


def test_a_changed_tokenizer(gated: Gated, tmp_path: Path) -> None:
    def rename(folder: Path) -> None:
        path = folder / "tokenizer.json"
        path.write_text(path.read_text().replace('"Ġthe"', '"Ġthee"', 1))

    assert "side-files" in failed(checked(gated, gated.altered(tmp_path, rename)))
