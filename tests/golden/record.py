"""The golden record as it is stored, and comparisons with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.golden import bundles

PATH = Path(__file__).parent / "record.json"
RECORD: dict[str, Any] = json.loads(PATH.read_text()) if PATH.exists() else {"bundles": {}}


def compare(name: str, found: dict[str, Any]) -> None:
    """Fail where the bundle of a recipe differs from the recorded one; skip numbers of an unknown kind of processor."""
    recorded = RECORD["bundles"][name]
    assert found.get("graphs") == recorded.get("graphs")
    numbers = recorded["numbers"].get(bundles.machine())
    if numbers is None:
        pytest.skip(f"the record has no numbers of {bundles.machine()}; graphs are as recorded")
    assert found["numbers"] == numbers
