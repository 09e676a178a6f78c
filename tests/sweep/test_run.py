"""A sweep from file to tables, in this process, in others, on a cluster, and after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

pytest.importorskip("optimum.exporters.onnx")

from edge_asr_deploy import stages
from edge_asr_deploy.bundle.verification import verify
from edge_asr_deploy.cli import app
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.experiments.sweep import cells
from edge_asr_deploy.experiments.sweep.record import SweepResult, read_results

CELLS = ["tiny/float", "tiny/rtn/w4", "tiny/rtn/w3", "tiny/gptq/w4", "tiny/gptq/w3"]


def sweep(*more: str) -> Result:
    return CliRunner().invoke(app, ["sweep", "sweep.yaml", "--output", "out", *more], env={"COLUMNS": "200"})


def result() -> SweepResult:
    found = read_results(Path("out"))
    assert found is not None
    return found


def states() -> dict[str, str]:
    return {record.name: record.state for record in result().cells}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often weights were computed, graphs written and bundles judged."""
    counts = {"compute_weights": 0, "write_files": 0, "evaluate": 0}

    def count(name: str) -> None:
        original = getattr(cells, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(cells, name, wrapped)

    for name in counts:
        count(name)
    return counts


def only_rounding(document: dict[str, Any]) -> dict[str, Any]:
    """Without methods that look at speech: their exports would have to speak, which a random model does not."""
    document["axes"]["method"].pop("gptq")
    document["base"]["calibration"]["corpus"] = "absent.jsonl"
    return document


def test_a_sweep_gives_results_tables_and_plots(
    document: dict[str, Any], write: Callable[..., Path], own_speech: None, counted: dict[str, int]
) -> None:
    write(document)
    ran = sweep()
    assert ran.exit_code == 0, ran.output
    found = result()
    assert states() == dict.fromkeys(CELLS, "done")
    for record in found.cells:
        measured = record.measured
        assert measured is not None
        assert sum(some.words for some in measured.by_corpus.values()) == measured.pooled.words == 9
        assert verify(Path(os.environ["EDGE_ASR_CACHE"]) / "sweep/bundles" / str(record.keys["bundle"]))
    by_name = {record.name: record.measured for record in found.cells}
    narrow, wide = by_name["tiny/gptq/w3"], by_name["tiny/float"]
    assert narrow is not None and wide is not None
    assert narrow.onnx_bytes < wide.onnx_bytes
    assert 3 < narrow.effective_bits_blocks < 5
    assert narrow.accuracy_level == 4 and "default" in narrow.accuracy_level_note
    assert by_name["tiny/gptq/w4"].accuracy_level == 1  # type: ignore[union-attr]
    assert narrow.rise is not None and narrow.rise.value == narrow.pooled.wer - wide.pooled.wer
    assert wide.rise is None and wide.against_reference is None
    assert by_name["tiny/rtn/w3"].against_reference is None  # type: ignore[union-attr]
    assert narrow.against_reference is not None
    assert narrow.paper.memory_io is not None and narrow.paper.memory_io < wide.paper.memory_io  # type: ignore[operator]
    assert {"wer", "rise", "against-rtn", "wer-noise0", "wer-noise1", "megabytes", "effective-bits"} <= {
        path.stem for path in Path("out/tables").iterdir()
    }
    assert "| tiny | gptq |" in Path("out/tables/wer.md").read_text()
    assert "accuracy level 1" in Path("out/tables/wer.md").read_text()
    assert {path.suffix for path in Path("out/tables").iterdir()} == {".md"}
    assert len(Path("out/results.jsonl").read_text().splitlines()) == 1 + len(CELLS)
    assert {path.name for path in Path("out/plots").iterdir()} == {
        "wer-bits.png",
        "wer-size.png",
        "wer-bops.png",
        "wer-memory-io.png",
    }
    assert "edge-deploy sweep sweep.yaml --output out" in Path("out/README.md").read_text()
    # The tied table has the same codes in all four cells: blocks four times, the table once, and the float weights.
    assert counted == {"compute_weights": 6, "write_files": 5, "evaluate": 5}

    counted.update(dict.fromkeys(counted, 0))
    assert sweep().exit_code == 0
    assert set(counted.values()) == {0}
    listed = sweep("--list", "--only", "tiny/gptq/*").stdout
    assert listed.splitlines() == ["tiny/float\tcached", "tiny/gptq/w4\tcached", "tiny/gptq/w3\tcached"]

    # What differs in its evaluation alone is judged anew, and nothing else.
    document["evaluation"]["limit"] = 1
    write(document)
    assert "tiny/gptq/w4\tpending" in sweep("--list").stdout
    assert sweep("--only", "tiny/rtn/w4").exit_code == 0
    assert counted == {"compute_weights": 0, "write_files": 0, "evaluate": 2}
    assert states()["tiny/gptq/w4"] == "pending"


def test_what_an_earlier_run_found_stays(
    document: dict[str, Any], write: Callable[..., Path], own_speech: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(only_rounding(document))
    assert sweep().exit_code == 0
    before = {record.name: record.measured for record in result().cells}
    # Another machine, with nothing in its store.
    monkeypatch.setenv("EDGE_ASR_CACHE", "elsewhere")
    assert "tiny/rtn/w3\tpending" in sweep("--list").stdout
    assert sweep("--only", "tiny/rtn/w4").exit_code == 0
    found = {record.name: record for record in result().cells}
    assert {name: record.earlier for name, record in found.items()} == {
        "tiny/float": False,
        "tiny/rtn/w4": False,
        "tiny/rtn/w3": True,
    }
    assert found["tiny/rtn/w3"].measured == before["tiny/rtn/w3"]
    assert "3 cells done (1 of them by earlier runs" in Path("out/README.md").read_text()
    assert "sweep.yaml --output out`" in Path("out/README.md").read_text()
    # Another recipe, or judged otherwise: it is not the same cell.
    document["axes"]["setting"]["w3"]["blocks"]["weights"]["symmetric"] = True
    write(document)
    assert sweep("--only", "tiny/rtn/w4").exit_code == 0
    assert states()["tiny/rtn/w3"] == "pending"
    # What cannot be read is not written over.
    for name in ("results.jsonl", "results.json"):
        Path("out/results.jsonl").unlink(missing_ok=True)
        Path("out", name).write_text("{")
        ran = sweep("--only", "tiny/rtn/w4")
        assert isinstance(ran.exception, UserError) and Path("out", name).read_text() == "{"
        assert str(ran.exception).startswith("--output: out: holds results that are not those of a sweep; move them")


def test_a_bundle_from_stored_weights_is_the_same(
    document: dict[str, Any], write: Callable[..., Path], own_speech: None, counted: dict[str, int]
) -> None:
    document["cells"] = [{"method": ["gptq"], "setting": ["w3"]}]
    write(document)

    def graphs() -> dict[str, Any]:
        key = str(result().cells[1].keys["bundle"])
        files = verify(Path("cache/sweep/bundles") / key).files
        return {name: entry for name, entry in files.items() if ".onnx" in name}

    assert sweep().exit_code == 0
    first = graphs()
    for stage in ("bundles", "results"):
        for path in Path("cache/sweep", stage).glob("[!.]*"):
            path.rename(path.with_name(f".{path.name}.gone"))
    counted.update(dict.fromkeys(counted, 0))
    assert sweep().exit_code == 0
    assert counted["compute_weights"] == 0 and counted["write_files"] == 2
    assert graphs() == first


def test_cells_that_differ_in_activations_alone_share_their_weights(
    document: dict[str, Any], write: Callable[..., Path], own_speech: None, counted: dict[str, int]
) -> None:
    weights = {"bits": 8, "symmetric": True, "granularity": "channel"}
    kinds = {"w8a8": "int8-dynamic", "w8s8": "int8-static"}
    document["axes"]["setting"] = {
        setting: {"blocks": {"weights": weights, "activations": kind}} for setting, kind in kinds.items()
    }
    document["cells"] = [{"method": ["gptq"]}]
    write(document)
    ran = sweep()
    assert ran.exit_code == 0, ran.output
    # The baseline, the blocks and the table, for two exports beside the baseline's.
    assert counted == {"compute_weights": 3, "write_files": 3, "evaluate": 3}
    bundles = [verify(Path("cache/sweep/bundles") / str(record.keys["bundle"])) for record in result().cells[1:]]
    kinds_found = [{layer.activations for layer in bundle.layers if layer.component == "encoder"} for bundle in bundles]
    assert kinds_found == [{kind} for kind in kinds.values()]
    assert [record.keys["ranges"] is None for record in result().cells] == [True, True, False]


def test_a_cell_that_fails_is_recorded_and_the_rest_goes_on(
    document: dict[str, Any], write: Callable[..., Path], own_speech: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = stages.compute_weights

    def fail(model: Any, recipe: Any, *more: Any) -> Any:
        if recipe.encoder.weights.bits == 4:
            raise ValueError("singular\nmatrix")
        return original(model, recipe, *more)

    monkeypatch.setattr(cells, "compute_weights", fail)
    write(document)
    ran = sweep("--only", "tiny/rtn/*")
    assert ran.exit_code == 1
    assert states() == {
        **dict.fromkeys(CELLS, "pending"),
        "tiny/float": "done",
        "tiny/rtn/w3": "done",
        "tiny/rtn/w4": "failed",
    }
    assert result().cells[1].error == "ValueError: singular"
    assert "`tiny/rtn/w4`: ValueError: singular" in ran.stdout
    # The next run tries it again.
    monkeypatch.setattr(cells, "compute_weights", original)
    assert sweep("--only", "tiny/rtn/*").exit_code == 0
    assert states()["tiny/rtn/w4"] == "done"


def test_a_model_that_is_nowhere_fails_its_cells_alone(
    document: dict[str, Any], write: Callable[..., Path], own_speech: None
) -> None:
    document["axes"]["model"]["gone"] = {"model": "./no-such-folder", "family": "whisper"}
    document["cells"] = [{"method": ["rtn"], "setting": ["w4"]}]
    write(document)
    assert sweep().exit_code == 1
    assert states() == {"tiny/float": "done", "tiny/rtn/w4": "done", "gone/float": "failed", "gone/rtn/w4": "failed"}
    assert "no-such-folder" in str(result().cells[3].error)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--only", "x"], "--only: x"),
        (["--ray", "127.0.0.1:1"], "--ray: 127.0.0.1:1: no Ray cluster answers there"),
        (["--ray", "nonsense"], "--ray: nonsense: no Ray cluster answers there"),
    ],
)
def test_bad_input_is_one_line_before_anything_runs(
    document: dict[str, Any],
    write: Callable[..., Path],
    own_speech: None,
    counted: dict[str, int],
    more: list[str],
    named: str,
) -> None:
    if "--ray" in more:
        pytest.importorskip("ray", reason="Ray is not installed: pip install edge-asr-deploy[cluster]")
    write(document)
    ran = sweep(*more)
    assert isinstance(ran.exception, UserError), ran.output
    assert str(ran.exception).startswith(named) and "\n" not in str(ran.exception)
    assert set(counted.values()) == {0}


def test_a_killed_sweep_goes_on_where_it_was(
    document: dict[str, Any], write: Callable[..., Path], own_speech: None, counted: dict[str, int]
) -> None:
    write(only_rounding(document))
    program = "from edge_asr_deploy.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", program, "sweep", "sweep.yaml", "--output", "out"])
    try:
        deadline = time.monotonic() + 400
        while not Path("out/results.jsonl").exists() or "done" not in states().values():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    finished = [name for name, state in states().items() if state == "done"]
    assert 1 <= len(finished) < 3
    assert sweep().exit_code == 0
    assert set(states().values()) == {"done"}
    assert counted["evaluate"] == 3 - len(finished)
    assert counted["write_files"] <= 3 - len(finished)


def test_processes_find_what_one_process_finds(
    document: dict[str, Any], write: Callable[..., Path], own_speech: None
) -> None:
    write(only_rounding(document))
    ran = sweep("--jobs", "2")
    assert ran.exit_code == 0, ran.output
    together = [record.measured.pooled for record in result().cells if record.measured]
    assert len(together) == 3
    os.environ["EDGE_ASR_CACHE"] = str(Path("cache2").resolve())
    assert sweep().exit_code == 0
    assert [record.measured.pooled for record in result().cells if record.measured] == together


def test_a_process_that_dies_fails_its_cell_alone(
    document: dict[str, Any], write: Callable[..., Path], own_speech: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    document["cells"] = [{"method": ["rtn"], "setting": ["w4"]}]
    write(only_rounding(document))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert sweep("--jobs", "2").exit_code == 1
    assert {record.error for record in result().cells} == {"its process ended with code 1 (no message)"}


def test_a_local_ray_of_two_workers(document: dict[str, Any], write: Callable[..., Path], own_speech: None) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install edge-asr-deploy[cluster]")
    from ray.cluster_utils import Cluster

    document["cells"] = [{"method": ["rtn"], "setting": ["w4"]}]
    write(only_rounding(document))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        ran = sweep("--ray", cluster.address)
    finally:
        cluster.shutdown()
    assert ran.exit_code == 0, ran.output
    assert states() == {"tiny/float": "done", "tiny/rtn/w4": "done"}


def test_json_is_the_result(document: dict[str, Any], write: Callable[..., Path], own_speech: None) -> None:
    document["cells"] = [{"method": ["rtn"], "setting": ["w4"]}]
    write(only_rounding(document))
    ran = sweep("--json", "--only", "tiny/float")
    assert json.loads(ran.stdout)["cells"][0]["measured"]["pooled"]["words"] == 9
