"""Faults of a re-export, and checks of what the gate finds: for bundles of small and of real models."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from time import thread_time

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from edge_asr_deploy.harness.gate.gate import check
from edge_asr_deploy.harness.gate.options import CheckOptions
from edge_asr_deploy.harness.gate.report import NAMES, Check
from tests.support.gated import DECODER, ENCODER, Gated


def checked(gated: Gated, bundle: Path, speed: bool = False) -> dict[str, Check]:
    options = CheckOptions(
        baseline=gated.baseline,
        data=(gated.data,),
        float_bundle=str(gated.float_bundle) if speed else "none",
        allow_unmeasured=() if speed else ("speed",),
    )
    report = check([bundle], options)
    found = {one.name: one for one in report.bundles[0].checks}
    assert tuple(found) == NAMES
    assert report.passed == all(one.verdict == "passed" or one.name in report.allowed for one in found.values())
    return found


def failed(found: dict[str, Check]) -> set[str]:
    return {name for name, one in found.items() if one.verdict == "failed"}


def float_encoder(gated: Gated) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        shutil.copyfile(gated.float_bundle / ENCODER, folder / ENCODER)

    return edit


def is_caught(slow: Check) -> bool:
    """Whether a slower graph did not pass: it failed, or was not measured beside busy programs."""
    return slow.verdict == "failed" or slow.note.startswith("machine busy")


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


def truncate(folder: Path) -> None:
    path = folder / DECODER
    path.write_bytes(path.read_bytes()[:-1000])


def good_bundle_passes_twice(gated: Gated) -> None:
    """The good bundle fails no check, twice in a row."""
    for _ in range(2):
        found = checked(gated, gated.bundle, speed=True)
        # A busy machine may keep the speed from being measured; it never makes a good bundle fail.
        assert all(one.verdict == "passed" or one.note.startswith("machine busy") for one in found.values()), found
        assert all(one.measured and one.limit for one in found.values())


def second_decoder_file_is_found(gated: Gated, tmp_path: Path) -> None:
    """A decoder that lies in the bundle twice is found."""
    bundle = gated.altered(tmp_path, lambda f: shutil.copyfile(f / DECODER, f / "decoder_with_past_model.onnx"))
    found = checked(gated, bundle)
    assert failed(found) >= {"stored-once", "operators", "size"}


def truncated_file_is_found(gated: Gated, tmp_path: Path) -> None:
    """A file without its end is found, and nothing else is measured."""
    found = checked(gated, gated.altered(tmp_path, truncate, rehash=False))
    assert failed(found) == {"files"}
    assert DECODER in found["files"].note
    assert {one.verdict for name, one in found.items() if name != "files"} == {"not measured"}
