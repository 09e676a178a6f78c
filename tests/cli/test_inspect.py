"""`edge-deploy inspect` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from edge_asr_deploy.cli import app
from edge_asr_deploy.errors import UserError
from tests.support.fakes import write_bundle


def graph() -> bytes:
    tensor = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    body = helper.make_graph([helper.make_node("Erf", ["x"], ["y"])], "g", tensor[:1], tensor[1:])
    model: onnx.ModelProto = helper.make_model(body, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "tiny", files={"encoder_model.onnx": graph(), "decoder_model_merged.onnx": graph()})
    return tmp_path / "tiny"


def test_a_person_sees_layers_bytes_and_operators(bundle: Path) -> None:
    ran = CliRunner().invoke(app, ["inspect", str(bundle)], env={"COLUMNS": "200"})
    assert ran.exit_code == 0, ran.output
    for shown in ("layers.0.fc1", "4 bits asym", "gptq", "384x1536", "0.0123", "encoder file", "Erf"):
        assert shown in ran.stdout


def test_a_machine_gets_json(bundle: Path) -> None:
    ran = CliRunner().invoke(app, ["inspect", str(bundle), "--json"])
    found = json.loads(ran.stdout)
    assert found["operators"]["encoder_model.onnx"] == {"Erf": 1}
    assert found["layers"][0]["bits"] == 4


def test_a_folder_that_is_no_bundle_is_one_clear_line(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["inspect", str(tmp_path)])
    assert isinstance(ran.exception, UserError)
    assert "edge-deploy export" in str(ran.exception)
