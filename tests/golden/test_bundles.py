"""The golden record: what must not change by accident. After an intended change: `python -m tests.golden`.

Bundles of small random models for every shipped recipe. Their numbers are compared on the kinds of processor that the
record knows, their graphs everywhere.
"""

from __future__ import annotations

import pytest

pytest.importorskip("optimum.exporters.onnx")

from tests.golden import bundles
from tests.golden.record import compare

SHIPPED = bundles.shipped_recipes()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_keep_their_bundles(name: str) -> None:
    compare(name, bundles.bundle_record(SHIPPED[name]))
