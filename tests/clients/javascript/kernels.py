"""Times the forms of a matrix product in onnxruntime-web's WebAssembly: the table in docs/design/graphs.md.

`make clients-js`, then `python -m tests.clients.javascript.kernels`.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.clients.javascript.installed import CLIENTS

SHAPES = ((384, 1536), (1536, 384), (384, 51864))
GROUP = 32
Node = onnx.NodeProto


def forms(rows: int, columns: int) -> dict[str, tuple[list[Node], dict[str, Any]]]:
    """Nodes and constants of every form of `x` (1, steps, rows) times a matrix [rows, columns]."""
    random, node = np.random.default_rng(0), helper.make_node
    codes = random.integers(-127, 128, (rows, columns)).astype(np.int8)
    scales = random.random(columns).astype(np.float32)

    def integer(*zero: str) -> list[Node]:
        return [
            node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            node("MatMulInteger", ["q", "w", "z", *zero], ["sums"]),
            node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
            node("Mul", ["s", "scales"], ["both"]),
            node("Mul", ["floats", "both"], ["y"]),
        ]

    unsigned = (codes.astype(np.int16) + 128).astype(np.uint8)
    made = {
        "float": ([node("MatMul", ["x", "w"], ["y"])], {"w": codes.astype(np.float32)}),
        "int8 signed": (integer(), {"w": codes, "scales": scales}),
        "int8 unsigned": (integer("zero"), {"w": unsigned, "scales": scales, "zero": np.array(128, np.uint8)}),
    }
    groups = rows // GROUP
    for bits in (4, 8):
        sizes = {"K": rows, "N": columns, "bits": bits, "block_size": GROUP}
        packed = random.integers(0, 256, (columns, groups, GROUP * bits // 8)).astype(np.uint8)
        constants = {"w": packed, "scales": random.random(columns * groups).astype(np.float32)}
        product = node("MatMulNBits", ["x", "w", "scales"], ["y"], domain="com.microsoft", **sizes)
        made[f"MatMulNBits {bits}"] = ([product], constants)
    return made


def main() -> None:
    """Write the models, and let onnxruntime-web time them."""
    with tempfile.TemporaryDirectory() as temporary:
        for rows, columns in SHAPES:
            for name, (nodes, constants) in forms(rows, columns).items():
                x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "steps", rows])
                y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
                tensors = [numpy_helper.from_array(value, key) for key, value in constants.items()]
                graph = helper.make_graph(nodes, name, [x], [y], tensors)
                opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
                model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
                onnx.save(model, Path(temporary) / f"{rows} x {columns}, {name}.onnx")
        script = CLIENTS / "kernels.mjs"
        shutil.copyfile(Path(__file__).with_name("kernels.mjs"), script)
        subprocess.run(["node", str(script), temporary], check=True)
        script.unlink()


if __name__ == "__main__":
    main()
