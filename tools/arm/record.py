"""The recorded numbers of instructions, and what counts as a change of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORD = Path(__file__).with_name("instructions.json")
# Counts of a small model repeat to 0.2 % (where things lie in memory), of a real one to 0.01 %.
TOLERANCE = 0.01

Figures = dict[str, float]


def read_record() -> dict[str, Any]:
    """Figures by version of onnxruntime, processor and bundle."""
    record: dict[str, Any] = json.loads(RECORD.read_text())
    return record


def write_record(record: dict[str, Any]) -> None:
    """Replace the record."""
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def differences(known: Figures, found: Figures) -> list[str]:
    """Parts whose instructions are off the record, fewer as well: a gain is recorded, so that it cannot be lost."""
    lines = []
    for part in sorted(known.keys() | found.keys()):
        before, now = known.get(part, 0.0), found.get(part, 0.0)
        if abs(now - before) > TOLERANCE * before:
            lines.append(
                f"{part}: {now:.0f} instructions, {before:.0f} recorded ({now / before - 1 if before else 1:+.1%})"
            )
    return lines
