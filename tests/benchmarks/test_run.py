"""Running cells: continuing, skipping, failing, a budget; and what the options of ours are."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.cells import PACKAGES, Cell, Configuration, ours, timed_cells
from benchmarks.clips import BANDS, Clip, by_length
from benchmarks.forms import Forms, installed
from benchmarks.ggml import byte_values, ggml_name
from benchmarks.run import Runner, Subject, process, subjects
from benchmarks.store import DONE, FAILED, SKIPPED, Record, Store
from benchmarks.worker import Job
from edge_asr_deploy.checkpoints import Checkpoint
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError
from tests.support.benchmark_records import FAST, FLOAT, MODEL, timed

HEAD: dict[str, Any] = {"clips": []}


class Counting:
    """A launch that answers at once, and remembers what it was asked."""

    def __init__(self, answer: Record | None = None) -> None:
        self.asked: list[str] = []
        self.answer = answer

    def __call__(self, cell: Cell, job: Job) -> Record:
        self.asked.append(f"{job.rival} {job.configuration} {cell.round}")
        return dict(self.answer or timed(cell.configuration, 1.0)[1])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(MODEL, "whisper", tmp_path, "made up", "0" * 64)


def runner(
    checkpoint: Checkpoint, launch: Counting, rivals: tuple[Subject, ...] = (), retry: bool = False
) -> tuple[Runner, Store]:
    store = Store(checkpoint.folder / "timing.json", HEAD)
    found = rivals or (Subject(FAST, checkpoint.folder), Subject(FLOAT, checkpoint.folder))
    return Runner(checkpoint, found, store, launch, lambda line: None, retry), store


CELLS = timed_cells(MODEL, [FAST, FLOAT], [1], 2, long=False)
PARTS: dict[str, list[Clip]] = {"clips": [], "long": []}


def test_rounds_are_interleaved_and_turned_around() -> None:
    order = [
        (cell.threads, cell.round, cell.configuration.name)
        for cell in timed_cells(MODEL, [FAST, FLOAT], [1, 2], 2, True)
    ]
    assert order[:4] == [(1, 0, "int8"), (1, 0, "fp32"), (2, 0, "int8"), (2, 0, "fp32")]
    assert order[4:6] == [(1, 1, "fp32"), (1, 1, "int8")]
    assert len(order) == 2 * 2 * 2 + 2 * 2


def test_finished_cells_are_not_run_again(checkpoint: Checkpoint) -> None:
    first, second = Counting(), Counting()
    runner(checkpoint, first)[0].run(CELLS, PARTS, None)
    runner(checkpoint, second)[0].run(CELLS, PARTS, None)
    assert (len(first.asked), second.asked) == (4, [])


def test_a_spent_budget_leaves_cells_that_the_next_run_takes_up(checkpoint: Checkpoint) -> None:
    launch = Counting()
    assert runner(checkpoint, launch)[0].run(CELLS, PARTS, 0.0) == 4
    assert launch.asked == []
    assert runner(checkpoint, launch)[0].run(CELLS, PARTS, None) == 0
    assert len(launch.asked) == 4


def test_failure_is_recorded_and_run_again_only_when_asked(checkpoint: Checkpoint) -> None:
    one, store = runner(checkpoint, Counting({"outcome": FAILED, "reason": "illegal instruction"}))
    one.run(CELLS[:1], PARTS, None)
    assert store.records[CELLS[0].key]["reason"] == "illegal instruction"
    launch = Counting()
    runner(checkpoint, launch)[0].run(CELLS[:1], PARTS, None)
    assert launch.asked == []
    runner(checkpoint, launch, retry=True)[0].run(CELLS[:1], PARTS, None)
    assert len(launch.asked) == 1


def test_skipped_rival_has_a_reason_and_runs_once_it_is_there(checkpoint: Checkpoint) -> None:
    missing = Subject(FAST, None, reason="faster_whisper is not installed")
    launch = Counting()
    one, store = runner(checkpoint, launch, (missing, Subject(FLOAT, checkpoint.folder)))
    one.run(CELLS[:2], PARTS, None)
    assert launch.asked == ["transformers fp32 0"]
    assert store.records[CELLS[0].key]["outcome"] == SKIPPED
    runner(checkpoint, launch)[0].run(CELLS[:2], PARTS, None)
    assert launch.asked == ["transformers fp32 0", "faster-whisper int8 0"]


def test_ours_is_run_again_after_a_change(checkpoint: Checkpoint) -> None:
    mine, launch = ours("w4"), Counting()
    for fingerprint in ("a", "a", "b"):
        one, _ = runner(checkpoint, launch, (Subject(mine, checkpoint.folder, fingerprint),))
        one.run([Cell(MODEL, mine, 1, "wer:0")], {"wer:0": []}, None)
    assert len(launch.asked) == 2


def test_store_refuses_other_clips_and_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "timing.json"
    Store(path, HEAD).put(CELLS[0], {"outcome": DONE})
    with pytest.raises(UserError, match="--fresh"):
        Store(path, {"clips": ["others"]})
    assert not Store(path, {"clips": ["others"]}, {MODEL}).records
    path.write_text("[]")
    with pytest.raises(UserError, match="is not a record of measurements"):
        Store(path, HEAD)


def test_fresh_timings_of_one_model_leave_those_of_others(tmp_path: Path) -> None:
    path = tmp_path / "timing.json"
    other = timed_cells("another", [FAST], [1], 1, long=False)[0]
    store = Store(path, HEAD)
    for cell in (CELLS[0], other):
        store.put(cell, {"outcome": DONE})
    assert list(Store(path, HEAD, {MODEL}).records) == [other.key]


def test_what_cannot_be_made_is_skipped_with_a_reason(checkpoint: Checkpoint, tmp_path: Path) -> None:
    forms = Forms(tmp_path / "work", Path(sys.executable), tmp_path / "none", exports=False)
    broken = Configuration("whisper.cpp", "q8_0", "ggml-q8_0")
    gone: dict[str, str | None] = {"faster-whisper": "faster_whisper is not installed"}
    reasons = {
        one.configuration.name: one.reason for one in subjects(checkpoint, [FAST, broken, ours("w4")], forms, gone)
    }
    assert reasons["int8"] == "faster_whisper is not installed"
    assert reasons["q8_0"] is not None and "benchmarks.convert ggml-q8_0 failed" in reasons["q8_0"]
    assert reasons["w4"] == f"there is no bundle {MODEL}-w4 in {tmp_path / 'none'}"


def test_packages_are_looked_up_where_the_rivals_live() -> None:
    found = installed(Path(sys.executable), {"here": ("json",), "gone": ("json", "no_such.package")})
    assert found == {"here": None, "gone": "no_such.package is not installed"}
    nowhere = installed(Path("/nowhere/python"), PACKAGES)
    assert all(reason and "make bench-peers" in reason for reason in nowhere.values())


def test_a_process_that_cannot_run_the_rival_is_recorded(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", np.zeros(16_000, np.float32))
    clip = {"id": "clip", "seconds": 1.0, "path": str(tmp_path / "clip.npy")}
    mine = ours("w4 --no-such-option 1")
    cell = Cell(MODEL, mine, 1, "clips")
    job = Job(mine.rival, mine.name, MODEL, str(tmp_path), 1, None, [clip], mine.options)
    record = process(Path(sys.executable), tmp_path / "cache")(cell, job)
    assert record["outcome"] == FAILED
    assert "no option no_such_option" in record["reason"]


def test_options_follow_the_bundle() -> None:
    one = ours("w4 --accuracy-level 1 --spinning false")
    assert (one.form, one.options) == ("w4", {"accuracy_level": "1", "spinning": "false"})
    with pytest.raises(UserError, match="pairs of --option and value"):
        ours("w4 --accuracy-level").options  # noqa: B018


def test_clips_of_every_band_by_rank_of_length() -> None:
    speech = [Utterance(str(n), np.zeros(1, np.float32), "words", "corpus", seconds=n / 2) for n in range(1, 80)]
    chosen = by_length(speech)
    assert [band for band, _ in chosen] == [band for band, (_, _, number) in BANDS.items() for _ in range(number)]
    for band, one in chosen:
        low, high, _ = BANDS[band]
        assert one.seconds is not None and low < one.seconds < high
    assert by_length(speech[::-1]) == chosen


def test_ggml_names_and_bytes() -> None:
    assert ggml_name("model.encoder.layers.3.self_attn.k_proj.weight") == "encoder.blocks.3.attn.key.weight"
    assert ggml_name("model.decoder.layers.0.encoder_attn.out_proj.bias") == "decoder.blocks.0.cross_attn.out.bias"
    assert ggml_name("model.decoder.layers.0.encoder_attn_layer_norm.bias") == "decoder.blocks.0.cross_attn_ln.bias"
    assert ggml_name("model.encoder.embed_positions.weight") == "encoder.positional_embedding"
    assert ggml_name("model.decoder.layer_norm.weight") == "decoder.ln.weight"
    assert ggml_name("model.encoder.conv1.bias") == "encoder.conv1.bias"
    assert sorted(byte_values().values()) == list(range(256))
    assert byte_values()["Ġ"] == ord(" ")


def test_records_are_json(tmp_path: Path) -> None:
    store = Store(tmp_path / "timing.json", HEAD)
    store.put(*timed(FAST, 1.0))
    assert json.loads(store.path.read_text())["records"][CELLS[0].key]["cell"]["configuration"]["name"] == "int8"
    assert not store.path.with_suffix(".partial").exists()
