"""The graphs of `harness/doctor/probes`: how they were made. `python -m tests.support.probes` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import edge_asr_deploy
from edge_asr_deploy.harness.doctor.probe import SIZE

FOLDER = Path(edge_asr_deploy.__file__).parent / "harness" / "doctor" / "probes"
KINDS = ("float", "int8", "4-bit")
# Of the 4-bit weights.
GROUP = 32
OPSET = 21


def graph(kind: str) -> bytes:
    """`x` (1, 1, 64) times a matrix of ones, in the form that bundles have."""

    def constant(name: str, value: Any) -> Any:
        return numpy_helper.from_array(value, name)

    if kind == "float":
        constants = [constant("w", np.ones((SIZE, SIZE), np.float32))]
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    elif kind == "int8":
        constants = [constant("w", np.ones((SIZE, SIZE), np.int8))]
        nodes = [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
            helper.make_node("MatMulInteger", ["q", "w", "zero"], ["sum"]),
            helper.make_node("Cast", ["sum"], ["whole"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["whole", "scale"], ["y"]),
        ]
    else:
        codes = helper.make_tensor("w", TensorProto.INT4, (SIZE, SIZE), b"\x11" * (SIZE * SIZE // 2), raw=True)
        constants = [codes, constant("scale", np.ones((SIZE // GROUP, SIZE), np.float32))]
        nodes = [
            helper.make_node("DequantizeLinear", ["w", "scale"], ["full"], axis=0, block_size=GROUP),
            helper.make_node("MatMul", ["x", "full"], ["y"]),
        ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, SIZE]) for name in "xy"]
    whole = helper.make_graph(nodes, kind, ends[:1], ends[1:], constants)
    # 10 is the newest file format of the oldest supported onnxruntime.
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return bytes(model.SerializeToString())


if __name__ == "__main__":
    for kind in KINDS:
        (FOLDER / f"{kind}.onnx").write_bytes(graph(kind))
