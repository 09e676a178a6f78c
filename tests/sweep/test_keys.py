"""Which stage depends on what: cells share what is the same for both."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from edge_asr_deploy.checkpoints import Checkpoint
from edge_asr_deploy.experiments.sweep.grid import Cell, Evaluation, lay_over
from edge_asr_deploy.experiments.sweep.keys import (
    EVALUATE_SOURCE,
    EXPORT_SOURCE,
    NOT_PTQ,
    PTQ_SOURCE,
    Keys,
    keys_of,
    split_table,
    unused_modules,
)
from edge_asr_deploy.recipe.document import Recipe, parse
from edge_asr_deploy.sources import ROOT, source_hash

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
    monkeypatch.setattr("edge_asr_deploy.experiments.sweep.keys.source_hash", lambda *parts: "another version")
    after = keys(recipe())
    assert before.weights != after.weights and before.result != after.result


def test_a_split_recipe_rounds_every_matrix_once() -> None:
    blocks, table = split_table(recipe())
    assert table is not None
    for name in ("encoder", "cross_attention", "decoder", "embedding"):
        assert [blocks.component(name).is_integer, table.component(name).is_integer].count(True) == 1


def test_only_methods_that_are_named_count() -> None:
    unused = unused_modules(recipe())
    assert {"ptq.methods.omniquant", "ptq.learning", "ptq.methods.awq"} <= unused
    assert not {"ptq.methods.gptq", "ptq.methods.rtn"} & unused
    learned = unused_modules(recipe(encoder={"weights": {"quantizer": {"method": "tesseraq"}}}))
    assert not {"ptq.methods.tesseraq", "ptq.learning"} & learned and "ptq.methods.omniquant" in learned
    assert source_hash(PTQ_SOURCE, unused) != source_hash(PTQ_SOURCE, learned)


@pytest.mark.parametrize(
    ("edited", "stages"),
    [
        ("runtime/targets.py", {EXPORT_SOURCE, EVALUATE_SOURCE}),
        ("runtime/decoding/audio_context.py", {EXPORT_SOURCE, EVALUATE_SOURCE}),
        ("ptq/methods/gptq.py", {PTQ_SOURCE, EXPORT_SOURCE}),
        ("quantized/weight.py", {PTQ_SOURCE, EXPORT_SOURCE}),
        ("recipe/weights.py", {PTQ_SOURCE, EXPORT_SOURCE}),
        ("graph/rewriting/decoder.py", {EXPORT_SOURCE}),
        ("proof/verify.py", {EXPORT_SOURCE}),
        ("harness/evaluation/wer.py", {EVALUATE_SOURCE}),
        ("cli/sweep.py", set()),
    ],
)
def test_an_edited_file_makes_new_keys_for_the_stages_that_run_it(
    edited: str, stages: set[tuple[str, ...]], tmp_path: Path
) -> None:
    root = tmp_path / ROOT.name
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns("__pycache__", "*.onnx"))
    without = {PTQ_SOURCE: NOT_PTQ}
    every = (PTQ_SOURCE, EXPORT_SOURCE, EVALUATE_SOURCE)
    before = {stage: source_hash(stage, without.get(stage, ()), root) for stage in every}
    assert before == {stage: source_hash(stage, without.get(stage, ())) for stage in every}
    with (root / edited).open("a") as file:
        file.write("# edited\n")
    after = {stage: source_hash(stage, without.get(stage, ()), root) for stage in every}
    assert {stage for stage in every if before[stage] != after[stage]} == stages
