"""Which stage depends on what: cells share what is the same for both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from edge_asr_deploy.checkpoints import Checkpoint
from edge_asr_deploy.recipe import Recipe, parse
from edge_asr_deploy.sweep.grid import Cell, Evaluation, lay_over
from edge_asr_deploy.sweep.keys import Keys, keys_of, source_hash, split_table, unused_files

CHECKPOINT = Checkpoint("tiny", "whisper", Path("nowhere"), "test", "a" * 64)
GPTQ = {"weights": {"bits": 4, "granularity": "channel", "quantizer": {"method": "gptq"}}}
BASE = {"name": "one", "family": "whisper", "encoder": GPTQ, "cross_attention": GPTQ, "decoder": GPTQ}


def recipe(**changes: Any) -> Recipe:
    return parse(lay_over(BASE, changes), "test")


def keys(changed: Recipe, calibration: list[str] | None = None, speech: str = "s", **evaluation: Any) -> Keys:
    cell = Cell({"model": "tiny", "method": "m", "setting": "s"}, changed, Evaluation(**evaluation))
    return keys_of(cell, CHECKPOINT, calibration or ["c"], [speech])


ALL = {"weights", "table", "ranges", "bundle", "result"}


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        (keys(recipe()), ALL),
        (keys(recipe(), speech="other"), ALL - {"result"}),
        (keys(recipe(), accuracy_level=1), ALL - {"result"}),
        # For the paper's formulas alone.
        (keys(recipe(), activation_bits=8), ALL),
        (keys(recipe(name="another")), {"weights", "table", "ranges"}),
        (keys(recipe(encoder={"activations": "int8-dynamic"})), {"weights", "table", "ranges"}),
        (keys(recipe(encoder={"activations": "int8-static"})), {"weights", "table"}),
        (keys(recipe(embedding={"weights": {"bits": 4}})), {"weights", "ranges"}),
        (keys(recipe(encoder={"weights": {"bits": 3}})), {"table", "ranges"}),
        (keys(recipe(stem={"bits": 32})), {"table", "ranges"}),
        (keys(recipe(), calibration=["d"]), {"table", "ranges"}),
        (keys(recipe(), language="de"), {"table", "ranges"}),
        # A table that looks at speech is not rounded apart from the blocks.
        (keys(recipe(embedding={"weights": {"quantizer": {"method": "gptq"}}})), {"ranges"}),
    ],
)
def test_a_key_changes_with_what_it_depends_on_and_nothing_else(changed: Keys, same: set[str]) -> None:
    before = keys(recipe())
    assert {name for name in ALL if getattr(before, name) == getattr(changed, name)} == same


def test_ranges_depend_on_their_calibrator_and_their_speech() -> None:
    static = recipe(encoder={"activations": {"kind": "int8-static"}})
    mse = recipe(encoder={"activations": {"kind": "int8-static", "calibrator": "mse"}})
    found = {keys(static).ranges, keys(mse).ranges, keys(static, calibration=["d"]).ranges}
    assert None not in found and len(found) == 3


def test_another_source_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(recipe())
    monkeypatch.setattr("edge_asr_deploy.sweep.keys.source_hash", lambda *parts: "another version")
    after = keys(recipe())
    assert before.weights != after.weights and before.result != after.result


def test_a_split_recipe_rounds_every_matrix_once() -> None:
    blocks, table = split_table(recipe())
    assert table is not None
    for name in ("encoder", "cross_attention", "decoder", "embedding"):
        assert [blocks.component(name).is_integer, table.component(name).is_integer].count(True) == 1


def test_only_methods_that_are_named_count() -> None:
    unused = unused_files(recipe())
    assert {"omniquant.py", "blockwise.py", "awq.py"} <= unused and not {"gptq.py", "rtn.py", "quantize.py"} & unused
    learned = unused_files(recipe(encoder={"weights": {"quantizer": {"method": "tesseraq"}}}))
    assert not {"tesseraq.py", "blockwise.py", "reconstruction.py"} & learned and "omniquant.py" in learned
    assert source_hash(("ptq",), unused) != source_hash(("ptq",), learned)
