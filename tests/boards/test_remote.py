"""Commands on a board over a real SSH connection to loopback."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from edge_asr_deploy.boards.remote import run_on
from edge_asr_deploy.boards.ssh import Board, Connection
from edge_asr_deploy.cli import app
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.benchmark.result import Benchmark
from edge_asr_deploy.harness.evaluation.result import Result
from tests.support.loopback import Loopback, files_there

QUIET = Console(quiet=True)


def test_a_board_prints_the_transcripts_that_this_machine_prints(
    prepared: Loopback, there: Path, bundle: Path, clips: list[Path]
) -> None:
    command = ["transcribe", str(bundle), *map(str, clips), "--language", "en"]
    here = CliRunner().invoke(app, command)
    ran = CliRunner().invoke(app, [*command, "--on", prepared.address])
    assert ran.exit_code == 0, ran.output
    assert ran.stdout == here.stdout
    rows = json.loads(CliRunner().invoke(app, [*command, "--json", "--on", prepared.address]).stdout)
    assert [row["file"] for row in rows] == [str(clip) for clip in clips]
    assert not any("jobs" in path for path in files_there(there)), "the job's folder is removed"


@pytest.mark.parametrize("command", ["transcribe", "evaluate"])
def test_the_target_is_the_boards_choice_or_the_users(
    command: str, prepared: Loopback, bundle: Path, clips: list[Path], tmp_path: Path
) -> None:
    more = (
        [str(clips[0])] if command == "transcribe" else ["--data", str(tmp_path / "noise.jsonl"), "--baseline", "none"]
    )
    ran = CliRunner().invoke(app, [command, str(bundle), *more, "--target", "pi4", "--on", prepared.address])
    assert ran.exit_code == 2
    assert "--target: pi4: this bundle is for generic" in ran.stderr


def test_a_bundle_whose_graphs_share_a_data_file_runs_there(
    prepared: Loopback, clips: list[Path], tmp_path: Path
) -> None:
    """onnxruntime refuses a data file that is a second name of another."""
    pytest.importorskip("optimum.exporters.onnx")
    from tests.support.arm_bundles import recipes, tiny_bundle

    several = tiny_bundle(recipes()["targets"], tmp_path / "several")
    command = ["transcribe", str(several), str(clips[0]), "--language", "en", "--target", "pi4"]
    ran = CliRunner().invoke(app, [*command, "--on", prepared.address])
    assert ran.exit_code == 0, ran.output
    assert ran.stdout == CliRunner().invoke(app, command).stdout


def test_a_file_that_is_no_audio_is_named_as_it_is_called_here(
    prepared: Loopback, bundle: Path, clips: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio")
    ran = CliRunner().invoke(app, ["transcribe", str(bundle), str(bad), str(clips[0]), "--on", prepared.address])
    assert ran.exit_code == 2
    assert ran.stdout.startswith(f"{clips[0]}: ")
    assert f"edge-deploy: {prepared.address}: audio: {bad}: is not audio" in ran.stderr


def test_evaluation_is_of_the_board(prepared: Loopback, bundle: Path, clips: list[Path], tmp_path: Path) -> None:
    data, output = str(tmp_path / "noise.jsonl"), tmp_path / "result.json"
    command = ["evaluate", str(bundle), "--data", data, "--baseline", "none", "--no-speed"]
    ran = CliRunner().invoke(app, [*command, "--on", prepared.address, "--json", "--output", str(output)])
    assert ran.exit_code == 0, ran.output
    result = Result.model_validate_json(ran.stdout)
    assert Result.model_validate_json(output.read_text()) == result
    assert result.bundle.accuracy.pooled.wer == 0 and result.corpora == {"noise": 2}
    assert "noise.jsonl" in result.speech
    table = CliRunner().invoke(app, [*command, "--on", prepared.address], env={"COLUMNS": "200"})
    assert table.stdout.startswith(prepared.address) and "noise (2)" in table.stdout


def test_a_board_that_fails_does_not_stop_the_others(prepared: Loopback, bundle: Path, clips: list[Path]) -> None:
    boards = ["pi@board.invalid", prepared.address]
    bad, good = run_on(boards, ["transcribe", bundle, clips[0], "--language", "en", "--json"], QUIET)
    assert (bad.code, bad.output) == (2, None)
    assert bad.messages == ("--on: pi@board.invalid: there is no host of this name; correct the address",)
    assert good.code == 0 and good.output[0]["text"]


def test_what_cannot_be_is_found_before_any_board_is_asked(tmp_path: Path) -> None:
    for boards, argument, message in (
        (["pi@a", "pi@a"], "x", "given twice"),
        (["a b"], "x", "is not an address"),
        (["pi@a"], tmp_path / "absent.wav", "no such file"),
    ):
        with pytest.raises(UserError, match=message):
            run_on(boards, ["transcribe", argument], QUIET)


def test_a_cut_while_it_runs_ends_the_run(prepared: Loopback, there: Path, tmp_path: Path) -> None:
    [python] = there.glob("environments/*/bin/python")
    noted = tmp_path / "pid"
    python.write_text(f"#!/bin/sh\necho $$ >{noted}\nexec sleep 600\n")

    def alive() -> bool:
        with suppress(ProcessLookupError):
            os.kill(int(noted.read_text()), 0)
            return True
        return False

    connection = Connection(Board.parse(prepared.address))
    failures: list[str] = []

    def run() -> None:
        try:
            connection.ask("have", files={})
            key = python.parent.parent.name
            connection.ask("run", files={}, arguments=["transcribe"], package="0", environment=key)
        except UserError as error:
            failures.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    wait_for(lambda: noted.exists() and noted.read_text().strip() != "")
    assert alive() and list(there.glob("jobs/*"))
    connection.close()
    thread.join()
    assert "the connection was cut" in failures[0]
    wait_for(lambda: not list(there.glob("jobs/*")))
    assert not alive()


def wait_for(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.real
def test_an_environment_that_pip_cannot_make_leaves_nothing(
    board: Loopback, there: Path, bundle: Path, clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the board nor this machine has an index."""
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(there.parent), "PIP_CONFIG_FILE": os.devnull}
    board.environment(XDG_CACHE_HOME=str(there.parent), **nowhere)
    for name, value in nowhere.items():
        monkeypatch.setenv(name, value)
    [answer] = run_on([board.address], ["transcribe", bundle, clips[0], "--json"], QUIET)
    assert answer.code == 2 and "No matching distribution found" in answer.messages[0]
    assert not list(there.glob("environments/*"))


@pytest.mark.real
def test_from_nothing(board: Loopback, there: Path, bundle: Path, clips: list[Path], tmp_path: Path) -> None:
    """A board with nothing but python3: environment, bundle and speech are brought there, once."""
    command = ["transcribe", str(bundle), str(clips[0]), "--language", "en"]
    first = CliRunner().invoke(app, [*command, "--on", board.address])
    assert first.exit_code == 0, first.output
    assert first.stdout == CliRunner().invoke(app, command).stdout
    data = ["--data", str(tmp_path / "noise.jsonl"), "--baseline", "none", "--json"]
    second = CliRunner().invoke(app, ["evaluate", str(bundle), *data, "--on", board.address])
    assert second.exit_code == 0, second.output
    assert Result.model_validate_json(second.stdout).bundle.accuracy.pooled.wer == 0
    [environment] = there.glob("environments/*")
    assert not list(environment.glob("lib/*/site-packages/torch"))
    lengths = ["--lengths", "0.5", "--rounds", "1", "--profile", "--json"]
    timed = CliRunner().invoke(app, ["bench", str(bundle), *data[:2], *lengths, "--on", board.address])
    assert timed.exit_code == 0, timed.output
    assert Benchmark.model_validate_json(timed.stdout).profile
    third = CliRunner().invoke(app, [*command, "--on", board.address])
    assert f"{board.address}: 0.0 MB copied" in third.stderr
