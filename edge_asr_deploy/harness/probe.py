"""Imports what the runtime needs and runs each kind of matrix product: `python -m edge_asr_deploy.harness.probe`.

In a process of its own, because a library built for another processor ends it with an illegal instruction. Every step
is announced by one JSON line before it begins and confirmed by another after it, so the last line names the culprit.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from typing import Any

PACKAGES = ("numpy", "onnxruntime", "onnx", "tokenizers", "soundfile", "soxr")
# A width at which the vectorized kernels are taken, and a group of the 4-bit weights.
SIZE, GROUP = 64, 32
OPSET = 21


def main() -> None:
    """Announce, do and confirm each step on standard output."""
    for name in PACKAGES:
        _step(f"import {name}", lambda name=name: getattr(importlib.import_module(name), "__version__", ""))  # type: ignore[misc]
    for kind in ("float", "int8", "4-bit"):
        _step(f"run {kind}", lambda kind=kind: _run(kind))  # type: ignore[misc]


def _step(name: str, work: Callable[[], object]) -> None:
    print(json.dumps({"step": name}), flush=True)
    try:
        found = str(work() or "")
    except Exception as error:  # whatever a broken library raises is what is looked for
        print(json.dumps({"step": name, "error": f"{type(error).__name__}: {error}".splitlines()[0]}), flush=True)
    else:
        print(json.dumps({"step": name, "found": found}), flush=True)


def _run(kind: str) -> None:
    """One product of ones in onnxruntime; ValueError when it is wrong."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(_graph(kind), providers=["CPUExecutionProvider"])
    [product] = session.run(None, {"x": np.ones((1, 1, SIZE), np.float32)})
    if not np.allclose(product, SIZE, rtol=0.02):
        raise ValueError(f"{SIZE} x 1 x 1 gives {float(product.flat[0])}")


def _graph(kind: str) -> bytes:
    """`x` (1, 1, 64) times a matrix of ones, in the form that bundles have."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

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
    graph = helper.make_graph(nodes, kind, ends[:1], ends[1:], constants)
    # 10 is the newest file format of the oldest supported onnxruntime.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
