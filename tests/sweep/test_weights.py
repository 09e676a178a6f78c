"""A quantized model comes back from disk as it was."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from edge_asr_deploy.experiments.sweep.store import Store
from edge_asr_deploy.experiments.sweep.weights import (
    CODES,
    INDEX,
    is_storable,
    read,
    read_ranges,
    save,
    save_ranges,
    snapshot,
)
from edge_asr_deploy.quantized.inputs import Static
from edge_asr_deploy.recipe.document import parse
from edge_asr_deploy.sealing import is_sealed, seal_folder
from edge_asr_deploy.stages import compute_weights
from tests.support import short
from tests.support.killed import killed_at

SPEC = {"weights": {"bits": 4, "granularity": "group:16", "steps": [{"method": "awq"}]}}


def quantized(family: str) -> tuple[Any, Any, Any]:
    model = short.model(family)
    before = snapshot(model)
    document = {"name": "t", "family": family, "encoder": SPEC, "cross_attention": SPEC, "decoder": SPEC}
    weights = compute_weights(model, parse(document, "test"), short.samples(family), lambda done, total, name: None)
    return model, weights, before


@pytest.mark.parametrize("family", ["whisper", "moonshine"])
def test_codes_folds_and_stem_come_back_exactly(family: str, tmp_path: Path) -> None:
    model, weights, before = quantized(family)
    assert is_storable(model, before)
    save(tmp_path, model, weights, before, 1.5)
    seal_folder(tmp_path)
    fresh = short.model(family)
    stored = read(tmp_path)
    assert stored is not None
    stored.restore(fresh)
    assert stored.seconds == 1.5
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, fresh.state_dict()[name]), name
    for ours, theirs in zip(weights, stored.weights, strict=True):
        assert ours.name == theirs.name and ours.error == theirs.error
        assert np.array_equal(ours.codes, theirs.codes) and type(ours.scales) is type(theirs.scales)
    # The codes say it all: only what the folds and the narrow stem changed is kept beside them.
    assert not {f"{weight.name}.weight" for weight in weights} & stored.floats.keys()
    assert any("norm" in name for name in stored.floats)


def test_ranges_come_back_exactly(tmp_path: Path) -> None:
    from dataclasses import replace

    _, weights, _ = quantized("whisper")
    fixed = Static(np.float32(0.1), 7)
    save_ranges(tmp_path, [replace(weights[0], inputs=fixed), weights[1]])
    seal_folder(tmp_path)
    found = read_ranges(tmp_path)
    assert found == {weights[0].name: fixed, weights[1].name: None}
    assert isinstance(found[weights[0].name].scale, np.float32)  # type: ignore[union-attr, index]


def test_what_is_cut_short_or_foreign_counts_as_nothing(tmp_path: Path) -> None:
    model, weights, before = quantized("whisper")
    assert read(tmp_path) is None
    save(tmp_path, model, weights, before, 1.5)
    seal_folder(tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    index["weights"][0]["class"] = "os:system"
    (tmp_path / INDEX).write_text(json.dumps(index))
    assert read(tmp_path) is None
    seal_folder(tmp_path)
    assert read(tmp_path) is None, "even where somebody has made the seal anew"
    save(tmp_path, model, weights, before, 1.5)
    seal_folder(tmp_path)
    codes = (tmp_path / CODES).read_bytes()
    (tmp_path / CODES).write_bytes(codes[: len(codes) // 2])
    assert read(tmp_path) is None


def test_a_model_with_new_modules_is_not_stored() -> None:
    model = short.model("whisper")
    before = snapshot(model)
    model.model.encoder.extra = torch.nn.Linear(2, 2)
    assert not is_storable(model, before)


def test_an_entry_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fill(folder: Path) -> None:
        (folder / "file").write_text("half")
        raise KeyboardInterrupt

    with store.alone("weights", "key"), pytest.raises(KeyboardInterrupt):
        store.make_folder("weights", "key", fill)
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [".key.lock"]


def test_killed_at_any_step_the_store_has_a_whole_entry_or_none(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "file").write_text("whole")

    step, is_killed = 0, True
    while is_killed:
        store, key = Store(tmp_path), f"key{step}"
        is_killed = killed_at(step, partial(store.make_folder, "weights", key, fill))
        assert not store.path("weights", key).exists() or is_sealed(store.path("weights", key))
        assert (store.make_folder("weights", key, fill) / "file").read_text() == "whole"
        step += 1
    assert step > 4
