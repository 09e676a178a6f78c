"""Commands on a board over a real SSH connection to loopback."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from edge_asr_deploy.boards.remote import run_on
from edge_asr_deploy.boards.ssh import Board, Connection
from edge_asr_deploy.boards.sync import hashes
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


def test_the_second_score_is_counted_here(prepared: Loopback, bundle: Path, clips: list[Path], tmp_path: Path) -> None:
    """The texts of the result say all that it needs, so a board needs no extra."""
    pytest.importorskip("kaldialign", reason="the extra is not installed: pip install edge-asr-deploy[leaderboard]")
    command = ["evaluate", str(bundle), "--data", str(tmp_path / "noise.jsonl"), "--baseline", "none", "--no-speed"]
    ran = CliRunner().invoke(app, [*command, "--leaderboard", "--on", prepared.address, "--json"])
    assert ran.exit_code == 0, ran.output
    score = Result.model_validate_json(ran.stdout).bundle.accuracy.leaderboard
    assert score is not None and score.name == "open-asr-en"


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


def speech_there(there: Path) -> list[Path]:
    """Everything on the board that is audio, or holds one of its texts."""
    files = [path for path in there.rglob("*") if path.is_file() and "environments" not in path.parts]
    return [path for path in files if path.read_bytes()[:4] == b"RIFF" or "speech" in path.parts]


@pytest.mark.parametrize("command", ["transcribe", "evaluate", "bench"])
def test_no_speech_stays_on_a_board(
    command: str, prepared: Loopback, there: Path, bundle: Path, clips: list[Path], tmp_path: Path
) -> None:
    data = ["--data", str(tmp_path / "noise.jsonl"), "--baseline", "none"]
    words = {
        "transcribe": [str(clips[0]), "--language", "en"],
        "evaluate": [*data, "--no-speed"],
        "bench": [*data, "--lengths", "0.5", "--rounds", "1"],
    }[command]
    kept = CliRunner().invoke(app, [command, str(bundle), *words, "--on", prepared.address, "--keep-audio"])
    assert kept.exit_code == 0, kept.output
    wait_for(lambda: not (there / "jobs").exists() or not any((there / "jobs").iterdir()))
    assert any(path.read_bytes()[:4] == b"RIFF" for path in speech_there(there))
    again = CliRunner().invoke(app, [command, str(bundle), *words, "--on", prepared.address, "--keep-audio"])
    assert f"{prepared.address}: 0.0 MB copied" in again.stderr
    ran = CliRunner().invoke(app, [command, str(bundle), *words, "--on", prepared.address])
    assert ran.exit_code == 0, ran.output
    assert speech_there(there) == [], "nor what the earlier runs kept"
    names = {path.name for path in (there / "files").iterdir()}
    assert hashes([bundle / "encoder_model.onnx"])[bundle / "encoder_model.onnx"] in names, "the bundle stays"


def test_speech_is_removed_after_a_failure(prepared: Loopback, there: Path, bundle: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFFno audio")
    ran = CliRunner().invoke(app, ["transcribe", str(bundle), str(bad), "--on", prepared.address])
    assert ran.exit_code == 2
    assert speech_there(there) == []


def test_speech_that_earlier_versions_left_is_removed(
    prepared: Loopback, there: Path, bundle: Path, clips: list[Path]
) -> None:
    (there / "files").mkdir()
    left = there / "files" / hashes([clips[0]])[clips[0]]
    left.write_bytes(clips[0].read_bytes())
    ran = CliRunner().invoke(app, ["transcribe", str(bundle), str(clips[0]), "--on", prepared.address])
    assert ran.exit_code == 0, ran.output
    assert not left.exists() and speech_there(there) == []


def test_only_the_user_can_read_what_is_there(prepared: Loopback, there: Path, bundle: Path, clips: list[Path]) -> None:
    there.chmod(0o755)
    command = ["transcribe", str(bundle), str(clips[0]), "--on", prepared.address, "--keep-audio"]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert there.stat().st_mode & 0o777 == 0o700
    made = [path for path in there.rglob("*") if "environments" not in path.parts]
    assert not [path for path in made if path.stat().st_mode & 0o077]


def test_an_agent_that_is_killed_leaves_nothing_that_computes(prepared: Loopback, there: Path, tmp_path: Path) -> None:
    """As the kernel does where memory is short: by SIGKILL, to the agent alone. Workers have groups of their own."""
    [python] = there.glob("environments/*/bin/python")
    noted = tmp_path / "pids"
    program = "import subprocess, os, time; c = subprocess.Popen(['sleep', '600'], process_group=0); "
    program += "print(os.getpid(), c.pid, os.getppid(), flush=True); time.sleep(600)"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{program}" >{noted}\n')
    with Connection(Board.parse(prepared.address)) as connection:
        failures: list[str] = []

        def run() -> None:
            try:
                connection.ask("speech", files=["0"], keep=False)
                (there / "speech" / "0").write_text("private")
                key = python.parent.parent.name
                connection.ask("run", files={}, arguments=["transcribe"], package="0", environment=key)
            except UserError as error:
                failures.append(str(error))

        thread = threading.Thread(target=run)
        thread.start()
        wait_for(lambda: noted.exists() and len(noted.read_text().split()) == 3)
        command, child, agent = map(int, noted.read_text().split())
        os.kill(agent, signal.SIGKILL)
        thread.join()
        assert "the connection was cut" in failures[0]
        wait_for(lambda: not is_running(command) and not is_running(child))
        # The next run can start, and only then: the guard holds the lock until all is gone.
        with Connection(Board.parse(prepared.address)) as second:
            second.ask("have", files={})
            assert not (there / "speech" / "0").exists() and not any((there / "jobs").iterdir())


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
