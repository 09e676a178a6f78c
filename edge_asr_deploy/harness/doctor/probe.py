"""`python -m edge_asr_deploy.harness.doctor.probe`: imports the runtime's packages and runs all matrix products.

The probe runs in a process of its own, because a library built for another processor kills the process with an illegal
instruction. It prints one JSON line before every step and another after it, so the last line names the step that died.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from importlib import resources

PACKAGES = ("numpy", "onnxruntime", "tokenizers", "soundfile", "soxr")
# A width at which onnxruntime uses its vectorized kernels.
SIZE = 64


def main() -> None:
    """Run every step, and report its begin and end on standard output."""
    for name in PACKAGES:
        _step(f"import {name}", lambda name=name: getattr(importlib.import_module(name), "__version__", ""))  # type: ignore[misc]
    for kind in ("float", "int8", "4-bit"):
        _step(f"run {kind}", lambda kind=kind: _run(kind))  # type: ignore[misc]


def _step(name: str, work: Callable[[], object]) -> None:
    print(json.dumps({"step": name}), flush=True)
    try:
        version = str(work() or "")
    except Exception as error:  # a broken library may raise anything
        print(json.dumps({"step": name, "error": f"{type(error).__name__}: {error}".splitlines()[0]}), flush=True)
    else:
        print(json.dumps({"step": name, "found": version}), flush=True)


def _run(kind: str) -> None:
    """Multiply ones in onnxruntime, in a form that bundles use. ValueError when the product is wrong.

    The graph is read from a file, because boards lack the package `onnx` that could build it.
    """
    import numpy as np
    import onnxruntime

    graph = resources.files("edge_asr_deploy.harness.doctor").joinpath("probes", f"{kind}.onnx").read_bytes()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    [product] = session.run(None, {"x": np.ones((1, 1, SIZE), np.float32)})
    if not np.allclose(product, SIZE, rtol=0.02):
        raise ValueError(f"{SIZE} x 1 x 1 gives {float(product.flat[0])}")


if __name__ == "__main__":
    main()
