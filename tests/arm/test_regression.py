"""What counts as a change of the recorded instructions, and how the counter's lines are read. Runs anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, checker, helper, numpy_helper, save

from tests.arm.conftest import differences
from tests.arm.measure import Counts, Measured, read_counts, shorten
from tests.arm.probe import PARTS


def test_one_per_cent_either_way_is_a_change() -> None:
    known = {"step": 1000.0, "encoder": 1000.0}
    assert differences(known, {"step": 1009, "encoder": 991}) == []
    assert differences(known, {"step": 1011, "encoder": 1000}) == ["step: 1011 instructions, 1000 recorded (+1.1%)"]
    assert differences(known, {"step": 989, "encoder": 1000}) == ["step: 989 instructions, 1000 recorded (-1.1%)"]
    assert len(differences(known, {"step": 1000})) == 1, "a part that is gone"


def test_marks_are_summed_by_part_and_task() -> None:
    def line(tag: int, total: int) -> str:
        return f"{tag} total={total} sdot=1 udot=2 fmla=3\n"

    step, end = PARTS.index("step"), len(PARTS)
    text = line(0, 5) + line(step, 8) + line(0, 1) + line(step, 4) + line(end, 9) + line(step, 7) + line(end, 9)
    first, second = read_counts(text)
    assert first["step"] == Counts(12, 2, 4, 6) and first["other"].total == 6
    assert second == {"step": Counts(7, 1, 2, 3)}
    assert Measured({}, first).step == 3


@pytest.mark.parametrize("seconds", [1, 3])
def test_a_shorter_window_keeps_the_first_positions(tmp_path: Path, seconds: int) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    table = np.random.default_rng(0).normal(size=(1500, 80)).astype(np.float32)
    nodes = [
        helper.make_node("AveragePool", ["x"], ["pooled"], kernel_shape=[2], strides=[2]),
        helper.make_node("Transpose", ["pooled"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("Add", ["turned", "table"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "encoder",
        [value("x", TensorProto.FLOAT, [1, 80, 3000])],
        [value("y", TensorProto.FLOAT, [1, 1500, 80])],
        [numpy_helper.from_array(table, "table")],
    )
    whole, short = tmp_path / "whole.onnx", tmp_path / "short.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(whole))
    shorten(whole, seconds, short)
    checker.check_model(str(short))
    sound = np.random.default_rng(1).normal(size=(1, 80, 3000)).astype(np.float32)
    [all_rows] = onnxruntime.InferenceSession(str(whole)).run(None, {"x": sound})
    [rows] = onnxruntime.InferenceSession(str(short)).run(None, {"x": sound[:, :, : seconds * 100]})
    np.testing.assert_allclose(rows, all_rows[:, : seconds * 50], rtol=1e-6)
