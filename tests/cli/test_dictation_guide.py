"""The blocks of the guide on dictation run, with a file in the microphone's place."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from edge_asr_deploy.cli import app
from edge_asr_deploy.runtime.live import sources
from tests.support.exported import export
from tests.support.voice import voice

PAGE = (Path(__file__).parents[2] / "docs" / "guide" / "dictation.md").read_text()


def blocks(kind: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [block for name, block in found if name == kind]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export("moonshine", tmp_path_factory.mktemp("dictation"), sure=True).bundle


@pytest.fixture
def here(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "exported").mkdir()
    for place in (tmp_path / "BUNDLE", tmp_path / "exported" / "whisper-tiny.en-w4"):
        place.symlink_to(bundle)
    soundfile.write(tmp_path / "audio.wav", np.concatenate([voice(2), np.zeros(16_000)]), 16_000)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "sleep", lambda seconds: None)
    return tmp_path


def lines() -> list[str]:
    found = [
        line.partition("#")[0].partition(">")[0] for block in (*blocks(""), *blocks("sh")) for line in block.split("\n")
    ]
    return [line.strip() for line in found if line.startswith("edge-deploy listen")]


def test_the_page_shows_how_to_listen() -> None:
    assert len(lines()) == 6


@pytest.mark.parametrize("line", lines())
def test_its_commands_run(line: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def recorded(device: str | None) -> Iterator[np.ndarray]:
        yield from sources.played(here / "audio.wav", realtime=False)

    monkeypatch.setattr(sources, "recorded", recorded)
    monkeypatch.setattr(sources, "devices", lambda: "0 a microphone")
    ran = CliRunner().invoke(app, shlex.split(line)[1:])
    assert ran.exit_code == 0 and ran.stdout.strip(), ran.output
    if "--json" in line:
        events = [json.loads(row) for row in ran.stdout.splitlines()]
        assert [events[0]["event"], events[-1]["event"]] == ["speech_started", "final"]
        assert {"text", "start", "end"} < set(events[-1]["segment"])


def test_its_program_prints_events(here: Path) -> None:
    [program] = blocks("python")
    printed, scope = io.StringIO(), dict[str, Any]()
    with contextlib.redirect_stdout(printed):
        exec(program, scope)
    assert "SpeechStarted" in printed.getvalue() and "Final" in printed.getvalue()
