"""Every target of a bundle is opened and compared with the record, also those that this CPU would not choose."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper
from rich.console import Console

from edge_asr_deploy.bundle.manifest import Graphs
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.gate.baseline import read_baseline
from edge_asr_deploy.harness.gate.gate import update
from edge_asr_deploy.harness.gate.options import CheckOptions
from edge_asr_deploy.runtime.startup.cache import startup_root
from tests.support.gate_faults import checked, failed
from tests.support.gated import DECODER, ENCODER, Gated, edit_graph

PI4 = {"generic": Graphs(), "pi4": Graphs(encoder="encoder_model.pi4.onnx", decoder=DECODER)}


def with_pi4(folder: Path) -> None:
    """A graph of its own for another CPU: here the same products under another name of the graph."""
    edit_graph(ENCODER, lambda model: setattr(model.graph, "name", "pi4"))(folder)
    (folder / ENCODER).rename(folder / PI4["pi4"].encoder)


def several(gated: Gated, folder: Path, edit: Callable[[Path], None] = lambda folder: None) -> Path:
    """The bundle for two targets after an edit of its files."""

    def both(inside: Path) -> None:
        shutil.copyfile(inside / ENCODER, inside / "kept")
        with_pi4(inside)
        (inside / "kept").rename(inside / ENCODER)
        edit(inside)

    return gated.altered(folder, both, targets=PI4)


@pytest.fixture(scope="module")
def two(gated: Gated, tmp_path_factory: pytest.TempPathFactory) -> Gated:
    folder = tmp_path_factory.mktemp("two")
    bundle = several(gated, folder)
    options = CheckOptions(data=(gated.data,), float_bundle="none", baseline=folder / "record.json")
    [record] = update([bundle], options, Console(quiet=True))
    return replace(gated, bundle=bundle, baseline=record)


def test_all_targets_open_and_are_the_records(two: Gated) -> None:
    found = checked(two, two.bundle)["targets"]
    assert (found.verdict, found.measured, found.warning) == ("passed", "generic, pi4", "")
    recorded = read_baseline(two.baseline).targets
    assert recorded is not None and set(recorded["pi4"].files) == {"encoder_model.pi4.onnx", DECODER}


def garbage(folder: Path) -> None:
    (folder / PI4["pi4"].encoder).write_bytes(b"garbage" * 1000)


def decoder_for_encoder(folder: Path) -> None:
    shutil.copyfile(folder / DECODER, folder / PI4["pi4"].encoder)


def foreign_data(folder: Path) -> None:
    model = onnx.load(folder / PI4["pi4"].encoder)
    onnx.save(model, folder / PI4["pi4"].encoder, save_as_external_data=True, location="w.bin", size_threshold=0)
    (folder / "w.bin").rename(folder.parent / "w.bin")
    changed = onnx.load(folder / PI4["pi4"].encoder, load_external_data=False)
    for tensor in changed.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../w.bin"
    onnx.save(changed, folder / PI4["pi4"].encoder)


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (garbage, "is no ONNX file"),
        (decoder_for_encoder, "does not give last_hidden_state"),
        (foreign_data, "../w.bin"),
        (lambda folder: (folder / PI4["pi4"].encoder).unlink(), "encoder_model.pi4.onnx"),
    ],
)
def test_a_target_that_this_cpu_would_not_choose_is_opened(
    gated: Gated, two: Gated, tmp_path: Path, edit: Callable[[Path], None], named: str
) -> None:
    try:
        bundle = several(gated, tmp_path, edit)
    except UserError:
        pytest.skip("no such bundle can be written")
    found = checked(two, bundle)
    # Where the bundle itself is refused, `files` says so.
    blamed = found["files"] if found["files"].verdict == "failed" else found["targets"]
    assert blamed.verdict == "failed" and named in blamed.note


def test_a_target_that_this_cpu_would_not_choose_is_heard(gated: Gated, two: Gated, tmp_path: Path) -> None:
    """Ruined weights that load, in a graph of another CPU: only what it says gives it away."""

    def ruin(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.name.endswith("/scales"):
                tensor.CopyFrom(numpy_helper.from_array(-9 * numpy_helper.to_array(tensor), tensor.name))

    found = checked(two, several(gated, tmp_path, edit_graph(PI4["pi4"].encoder, ruin)))
    assert found["tokens"].verdict == found["operators"].verdict == "passed"
    assert found["wer"].verdict == "failed" and found["wer"].note.startswith("target pi4: ")


def test_a_target_that_names_a_file_elsewhere(gated: Gated, two: Gated, tmp_path: Path) -> None:
    bundle = several(gated, tmp_path)
    shutil.copytree(gated.float_bundle, tmp_path / "other")
    for place in ("../other/encoder_model.onnx", str(tmp_path / "other" / "encoder_model.onnx")):
        path = bundle / "manifest.json"
        text = path.read_text().replace("encoder_model.pi4.onnx", place)
        path.write_text(text)
        assert failed(checked(two, bundle)) & {"files", "targets"}


def test_targets_are_compared_with_the_record(gated: Gated, two: Gated, tmp_path: Path) -> None:
    assert "pi4 is missing" in checked(two, gated.bundle)["targets"].note
    assert "pi4 is new" in checked(gated, two.bundle)["targets"].note
    swapped = gated.altered(tmp_path, lambda folder: None, targets={"generic": Graphs(), "pi4": Graphs()})
    assert "pi4 runs encoder_model.onnx, in the record encoder_model.pi4.onnx" in checked(two, swapped)["targets"].note


def test_other_bytes_of_a_target_are_pointed_out(gated: Gated, two: Gated, tmp_path: Path) -> None:
    other = edit_graph(PI4["pi4"].encoder, lambda model: setattr(model.graph, "name", "re-exported"))
    found = checked(two, several(gated, tmp_path, other))["targets"]
    assert (found.verdict, found.warning) == ("passed", "other graphs or weights than the record's: pi4")


def test_a_record_without_targets_is_read_with_a_note(gated: Gated, tmp_path: Path) -> None:
    old = json.loads(gated.baseline.read_text())
    del old["targets"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    found = checked(replace(gated, baseline=tmp_path / "old.json"), gated.bundle)["targets"]
    assert found.verdict == "passed" and "--update-baseline" in found.warning


def test_no_cache_has_a_say(gated: Gated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier start left is neither read nor written: a poisoned entry changes no verdict."""
    monkeypatch.setenv("EDGE_ASR_STARTUP_CACHE", str(tmp_path / "startup"))
    assert startup_root() is not None
    assert checked(gated, gated.bundle)["tokens"].verdict == "passed"
    root = tmp_path / "startup"
    assert not root.exists() or not os.listdir(root)
