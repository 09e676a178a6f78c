"""No command reaches for the network unasked, and none leaves a file but in our cache and where it was told to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import soundfile

from tests.support.exported import export
from tests.support.fixtures_checkpoint import checkpoint, speech
from tests.support.traced import ROOT, Traced, run, traced
from tests.support.voice import voice

__all__ = ["checkpoint", "speech"]

# onnxruntime's telemetry resolves its host 9 s after the start.
LONG = 13


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small bundle, two clips and a manifest of them."""
    folder = tmp_path_factory.mktemp("silence")
    export("whisper", folder, sure=True)
    rows = []
    for number in range(2):
        soundfile.write(folder / f"{number}.wav", voice(1, number), 16_000)
        rows.append(json.dumps({"id": str(number), "audio": f"{number}.wav", "text": "noise", "source": "noise"}))
    (folder / "noise.jsonl").write_text("\n".join(rows))
    return folder


def check(place: Path, command: Sequence[str], expected: int = 0) -> Traced:
    """Run it under strace: no connection, nothing outside the cache, the outputs and the temporary folder."""
    found = traced(command, place, {"HF_HUB_OFFLINE": "1"})
    assert found.code == expected, found.output
    assert found.reached == []
    allowed = [place / name for name in ("cache", "temporary", "out")]
    assert not [path for path in found.created if not any(path.is_relative_to(one) for one in allowed)]
    left = [path for path in (place / "temporary").rglob("*") if path.is_file()]
    assert not left, "temporary files are removed"
    return found


COMMANDS = {
    # The first three write what the others read.
    "evaluate": "evaluate BUNDLE --data noise.jsonl --baseline none --output out/result.json",
    "pack": "pack BUNDLE --output out/pack.tar.gz",
    "record": "check BUNDLE --update-baseline --data noise.jsonl --float none --baseline out/record.json",
    "transcribe": "transcribe BUNDLE 0.wav --language en",
    "bench": "bench BUNDLE --data noise.jsonl --lengths 0.5 --rounds 1 --profile --output out/bench.json",
    "doctor": "doctor BUNDLE",
    "inspect": "inspect BUNDLE",
    "cost": "cost BUNDLE",
    "check": "check BUNDLE --data noise.jsonl --float none --baseline out/record.json --allow-unmeasured speed",
    "verify": "verify BUNDLE",
    "verify an archive": "verify out/pack.tar.gz",
    "summary": "summary out/result.json",
    "report": "report out/result.json --output out/report.html",
}
NAMES = ("out/", "noise.jsonl", "0.wav")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_reaches_nobody_and_leaves_nothing(name: str, place: Path) -> None:
    if name == "report":
        pytest.importorskip("jinja2")
    (place / "out").mkdir(exist_ok=True)
    words = [str(place / word) if word.startswith(NAMES) else word for word in COMMANDS[name].split()]
    words = [str(place / "bundle") if word == "BUNDLE" else word for word in words]
    check(place, ["-m", "edge_asr_deploy", *words])


def test_an_export_reaches_nobody_and_leaves_nothing(
    checkpoint: Path, speech: Path, tmp_path: Path, place: Path
) -> None:
    words = ["--model", str(checkpoint), "--calibration", str(speech), "--number", "2", "--bits", "8"]
    check(place, ["-m", "edge_asr_deploy", "export", *words, "--output", str(place / "out" / "exported")])


def test_a_process_that_stays_reaches_nobody(place: Path) -> None:
    program = "import time, edge_asr_deploy.runtime.transcriber as t; t.Transcriber.open({!r}); time.sleep({})"
    check(place, ["-c", program.format(str(place / "bundle"), LONG)])


def test_telemetry_would_be_noticed(place: Path, tmp_path: Path) -> None:
    """The user's own setting wins; then onnxruntime writes into the home folder, where it has telemetry at all."""
    program = "import edge_asr_deploy, os, onnxruntime, time; time.sleep(2); print(os.environ['ORT_DISABLE_TELEMETRY'])"
    ran = run([], ["-c", program], tmp_path, {"ORT_DISABLE_TELEMETRY": "0"})
    assert ran.stdout.decode().split() == ["0"]
    silent = tmp_path / "silent"
    silent.mkdir()
    assert run([], ["-c", program], silent, {}).stdout.decode().split() == ["1"]
    assert not [path for path in (silent / "home").rglob("*") if path.is_file()]
    if not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]:
        pytest.skip("this onnxruntime has no telemetry")


def test_a_connection_and_a_file_would_be_noticed(tmp_path: Path) -> None:
    program = (
        "import socket, os; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.0.0.1', 9)); "
        "open(os.path.expanduser('~/trace'), 'w')"
    )
    found = traced(["-c", program], tmp_path, {})
    assert found.reached and found.created == [tmp_path / "home" / "trace"]


@pytest.mark.parametrize(
    "given", [{}, {"HF_HUB_DISABLE_TELEMETRY": "0", "RAY_USAGE_STATS_ENABLED": "1"}, {"GOMP_SPINCOUNT": "5"}]
)
def test_other_packages_are_told_too_unless_the_user_says_otherwise(given: dict[str, str]) -> None:
    names = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "HF_UPDATE_DOWNLOAD_COUNTS")
    names += ("RAY_USAGE_STATS_ENABLED", "GOMP_SPINCOUNT")
    program = f"import edge_asr_deploy, os; print(*(os.environ[name] for name in {names}))"
    environment = {name: value for name, value in os.environ.items() if name not in names} | given
    environment["PYTHONPATH"] = str(ROOT)
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    expected = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0"}
    expected |= {"RAY_USAGE_STATS_ENABLED": "0", "GOMP_SPINCOUNT": "1000", **given}
    assert ran.stdout.split() == [expected[name] for name in names]
