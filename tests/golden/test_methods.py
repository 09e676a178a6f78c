"""The golden record: what must not change by accident. After an intended change: `python -m tests.golden`.

Weights, and where they are stored in a way of their own bundles, by the methods of the sweep.
"""

from __future__ import annotations

import pytest

pytest.importorskip("optimum.exporters.onnx")

from tests.golden import bundles
from tests.golden.record import compare

SWEPT = bundles.sweep_recipes()


@pytest.mark.parametrize("name", [name for name in SWEPT if bundles.is_exported(name)])
def test_methods_keep_their_bundles(name: str) -> None:
    compare(name, bundles.bundle_record(SWEPT[name]))


@pytest.mark.parametrize("name", [name for name in SWEPT if bundles.is_rounded(name)])
def test_methods_keep_their_weights(name: str) -> None:
    compare(name, {"numbers": {"weights": bundles.weights_record(bundles.quantized(SWEPT[name], exported=False)[1])}})
