"""Each fault that a re-export can bring is caught by a check that names it; the good bundle passes, twice in a row."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from time import thread_time

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from rich.console import Console

from edge_asr_deploy.bundle.manifest import read_manifest
from edge_asr_deploy.harness.gate.checks import NAMES, Check
from edge_asr_deploy.harness.gate.gate import Options, check
from tests.harness.gate.conftest import DECODER, ENCODER, Gated, edit_graph


def checked(gated: Gated, bundle: Path, speed: bool = False) -> dict[str, Check]:
    options = Options(data=[gated.data], float_bundle=str(gated.float_bundle) if speed else "none")
    report = check([bundle], gated.baseline, options, [] if speed else ["speed"], None, Console(quiet=True))
    found = {one.name: one for one in report.bundles[0].checks}
    assert tuple(found) == NAMES
    assert report.passed == (not failed(found))
    return found


def failed(found: dict[str, Check]) -> set[str]:
    return {name for name, one in found.items() if one.verdict == "failed"}


def test_the_good_bundle_passes_twice_in_a_row(gated: Gated) -> None:
    for _ in range(2):
        found = checked(gated, gated.bundle, speed=True)
        assert {one.verdict for one in found.values()} == {"passed"}, found
        assert all(one.measured and one.limit for one in found.values())


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


def float_encoder(gated: Gated) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        shutil.copyfile(gated.float_bundle / ENCODER, folder / ENCODER)

    return edit


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


def test_a_second_decoder_file(gated: Gated, tmp_path: Path) -> None:
    bundle = gated.altered(tmp_path, lambda f: shutil.copyfile(f / DECODER, f / "decoder_with_past_model.onnx"))
    found = checked(gated, bundle)
    assert failed(found) >= {"stored-once", "operators", "size"}


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


def slower(bundle: Path, share: float) -> Callable[[onnx.ModelProto], None]:
    """Products that change nothing, added to the encoder until it takes `share` more time."""
    units = 10
    fresh = onnx.load(bundle / ENCODER)
    base = seconds(fresh)
    add_products(fresh, units)
    number = math.ceil(share * base / max(1e-6, (seconds(fresh) - base) / units))
    return lambda model: add_products(model, number)


def add_products(model: onnx.ModelProto, number: int) -> None:
    graph, result = model.graph, "last_hidden_state"
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name == result:
                node.output[index] = "hidden"
    shape = next(output for output in graph.output if output.name == result).type.tensor_type.shape
    width, inner = shape.dim[2].dim_value, 256
    generator = np.random.default_rng(0)
    for name, shape in (("up", (width, inner)), ("down", (inner, width))):
        matrix = (0.1 * generator.normal(size=shape)).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(matrix, f"redundant/{name}"))
    graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "redundant/zero"))
    last = "hidden"
    for index in range(number):
        wide, narrow = f"redundant/wide{index}", f"redundant/narrow{index}"
        graph.node.append(helper.make_node("MatMul", [last, "redundant/up"], [wide], wide))
        graph.node.append(helper.make_node("MatMul", [wide, "redundant/down"], [f"{narrow}/raw"], narrow))
        # Bounded, so that many in a row stay finite.
        graph.node.append(helper.make_node("Tanh", [f"{narrow}/raw"], [narrow], f"{narrow}/tanh"))
        last = narrow
    graph.node.append(helper.make_node("Mul", [last, "redundant/zero"], ["redundant/nothing"], "redundant/nothing"))
    graph.node.append(helper.make_node("Add", ["hidden", "redundant/nothing"], [result], "redundant/add"))


def seconds(model: onnx.ModelProto) -> float:
    """Processor time of one run, the best of some."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {"input_features": np.zeros((1, 80, 3000), np.float32)}
    times = []
    for _ in range(8):
        started = thread_time()
        session.run(None, feeds)
        times.append(thread_time() - started)
    return min(times[1:])


def test_a_graph_that_is_a_fifth_slower(gated: Gated, tmp_path: Path) -> None:
    bundle = gated.altered(tmp_path, edit_graph(ENCODER, slower(gated.bundle, 0.22)))
    found = checked(gated, bundle, speed=True)
    assert "speed-encoder" in failed(found)
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


def truncate(folder: Path) -> None:
    path = folder / DECODER
    path.write_bytes(path.read_bytes()[:-1000])


def test_a_truncated_file(gated: Gated, tmp_path: Path) -> None:
    found = checked(gated, gated.altered(tmp_path, truncate, rehash=False))
    assert failed(found) == {"files"}
    assert DECODER in found["files"].note
    assert {one.verdict for name, one in found.items() if name != "files"} == {"not measured"}


def test_a_truncated_file_that_the_manifest_vouches_for(gated: Gated, tmp_path: Path) -> None:
    found = checked(gated, gated.altered(tmp_path, truncate))
    assert "operators" in failed(found)
    assert found["tokens"].verdict == "not measured"


def test_a_broken_manifest(gated: Gated, tmp_path: Path) -> None:
    def break_it(folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))

    assert failed(checked(gated, gated.altered(tmp_path, break_it, rehash=False))) == {"files"}
