"""The golden record: what must not change by accident. After an intended change: `python -m tests.golden`.

Dumps of recipes (their hashes are in stored results), options of every command, exit codes for bad input.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("optimum.exporters.onnx")

from tests.golden import bundles, commands
from tests.golden.record import RECORD


def test_recipes_keep_their_dumps() -> None:
    assert bundles.recipes_record() == RECORD["recipes"]


def test_commands_keep_their_options() -> None:
    assert commands.options_record() == RECORD["options"]


@pytest.mark.parametrize("line", commands.BAD_INPUTS)
def test_bad_input_keeps_its_exit_code(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ASR_CACHE", str(tmp_path / "cache"))
    assert commands.exit_code(line, tmp_path, monkeypatch) == RECORD["exit codes"][line]
