"""`python -m edge_asr_deploy.harness.doctor.probe`: import what the runtime needs, run each kind of matrix product.

In a process of its own, because a library built for another processor ends it with an illegal instruction. Every step
is announced by one JSON line before it begins and confirmed by another after it, so the last line names the culprit.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from importlib import resources

PACKAGES = ("numpy", "onnxruntime", "tokenizers", "soundfile", "soxr")
# A width at which the vectorized kernels are taken.
SIZE = 64


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
    """One product of ones, in the form that bundles have, in onnxruntime; ValueError when it is wrong.

    The graph is a file, because boards have no `onnx` to make it with.
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
