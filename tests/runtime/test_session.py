"""Settings reach onnxruntime, and what it cannot load becomes one line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.session import SessionSettings, open_session
from tests.support.optimized import operators


@pytest.fixture
def model(tmp_path: Path) -> Path:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "g", [value], [result])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), tmp_path / "model.onnx"
    )
    return tmp_path / "model.onnx"


def test_settings_reach_onnxruntime(model: Path) -> None:
    session = open_session(model, SessionSettings(threads=3, accuracy_level=1, spinning=False))
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.get_session_config_entry("session.qdq_matmulnbits_accuracy_level") == "1"
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    assert session.get_providers() == ["CPUExecutionProvider"]


def test_without_a_level_onnxruntime_keeps_its_own(model: Path) -> None:
    options = open_session(model, SessionSettings()).get_session_options()
    with pytest.raises(RuntimeError):
        options.get_session_config_entry("session.qdq_matmulnbits_accuracy_level")


def test_a_sum_and_its_norm_stay_apart(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "frames", 64]) for name in "xyz"]
    ones = onnx.numpy_helper.from_array(np.ones(64, np.float32), "scale")
    zeros = onnx.numpy_helper.from_array(np.zeros(64, np.float32), "shift")
    nodes = [
        helper.make_node("Add", ["x", "y"], ["sum"]),
        helper.make_node("LayerNormalization", ["sum", "scale", "shift"], ["z"], axis=-1),
    ]
    graph = helper.make_graph(nodes, "g", values[:2], values[2:], [ones, zeros])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, tmp_path / "norm.onnx")
    open_session(tmp_path / "norm.onnx", SessionSettings(), save_to=tmp_path / "optimized.onnx")
    kept = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kept == ["Add", "LayerNormalization"]
    # What inspection counts is what runs.
    assert operators(tmp_path / "norm.onnx") == {"Add": 1, "LayerNormalization": 1}


@pytest.mark.parametrize("content", [None, b"", b"this is no graph", b"\x08"])
def test_what_does_not_load_is_one_line(model: Path, content: bytes | None, capfd: pytest.CaptureFixture[str]) -> None:
    model.unlink() if content is None else model.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.onnx: onnxruntime .* cannot load it") as error:
        open_session(model, SessionSettings())
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "version", "remedy"),
    [
        (RuntimeError("std::bad_alloc"), "1.32.0", "too little memory"),
        (MemoryError("Unable to allocate 2.20 MiB"), "1.32.0", "too little memory"),
        (ValueError("Failed to serialize proto"), "1.32.0", "too little memory"),
        (RuntimeError("Could not find an implementation for QuantizeLinear(23)"), "1.23.2", "install onnxruntime 1.25"),
        (RuntimeError("Protobuf parsing failed"), "1.32.0", "export the bundle again"),
        (RuntimeError(), "1.32.0", "(RuntimeError); export the bundle again"),
    ],
)
def test_what_does_not_load_gets_the_remedy_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, version: str, remedy: str
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    (tmp_path / "model.onnx").touch()
    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    monkeypatch.setattr(onnxruntime, "__version__", version)
    monkeypatch.setattr("edge_asr_deploy.runtime.session.needs_unsigned", lambda path: False)
    with pytest.raises(UserError, match=re.escape(remedy)):
        open_session(tmp_path / "model.onnx", SessionSettings(threads=1))
