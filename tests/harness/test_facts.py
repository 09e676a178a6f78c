"""What is stored twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_asr_deploy.harness.gate.facts import stored_twice

WEIGHT = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)


def save(
    path: Path, weights: dict[str, np.ndarray], branch: dict[str, np.ndarray] | None = None, data: str = ""
) -> Path:
    """A model whose initializers are `weights`, and `branch` within an If; `data` names a file for all bytes."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [16, 16]) for name in "xy")
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    if branch:
        inner = [numpy_helper.from_array(value, name) for name, value in branch.items()]
        z = helper.make_tensor_value_info("z", TensorProto.FLOAT, [16, 16])
        bodies = [
            helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "branch", [], [z], initializers)
            for initializers in (inner, inner[1:])
        ]
        flag = helper.make_node("Constant", [], ["flag"], value=numpy_helper.from_array(np.array(True)))
        nodes += [flag, helper.make_node("If", ["flag"], ["w"], then_branch=bodies[0], else_branch=bodies[1])]
    outer = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], outer))
    external = {"save_as_external_data": True, "location": data, "size_threshold": 0} if data else {}
    onnx.save(model, path, **external)
    return path


def test_each_weight_once_is_no_duplicate(tmp_path: Path) -> None:
    assert stored_twice([save(tmp_path / "a.onnx", {"a": WEIGHT, "b": WEIGHT.T.copy()})]) == []


def test_twice_in_a_file_across_files_and_in_a_branch(tmp_path: Path) -> None:
    [found] = stored_twice([save(tmp_path / "a.onnx", {"a": WEIGHT, "b": WEIGHT})])
    assert found.places == ("a.onnx: a", "a.onnx: b")
    assert found.wasted == WEIGHT.nbytes
    files = [save(tmp_path / f"{name}.onnx", {name: WEIGHT}) for name in "cde"]
    [across] = stored_twice(files)
    assert across.wasted == 2 * WEIGHT.nbytes
    [branched] = stored_twice([save(tmp_path / "f.onnx", {"a": WEIGHT}, branch={"again": WEIGHT})])
    assert branched.places == ("f.onnx: a", "f.onnx: again")
    [twice] = stored_twice([save(tmp_path / "g.onnx", {}, branch={"other": WEIGHT.T.copy(), "same": WEIGHT})])
    assert twice.places == ("g.onnx: same", "g.onnx: same"), "both branches have it"


def test_zeros_and_small_tensors_may_be_equal(tmp_path: Path) -> None:
    equal = {"zeros": np.zeros_like(WEIGHT), "more": np.zeros_like(WEIGHT), "a": WEIGHT[0], "b": WEIGHT[0]}
    assert stored_twice([save(tmp_path / "a.onnx", equal)]) == []


def test_graphs_that_share_a_data_file_store_it_once(tmp_path: Path) -> None:
    first = save(tmp_path / "first.onnx", {"a": WEIGHT}, data="weights.bin")
    second = tmp_path / "second.onnx"
    second.write_bytes(first.read_bytes())
    assert stored_twice([first, second]) == []
    own = save(tmp_path / "own.onnx", {"a": WEIGHT}, data="own.bin")
    assert len(stored_twice([first, own])) == 1
