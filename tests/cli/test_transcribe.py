"""`edge-deploy transcribe` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import typer
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from edge_asr_deploy.cli import transcribe
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.transcriber import Transcriber, Transcript
from tests.support.fakes import transcript


class FakeTranscriber:
    """Hears how long a clip is, and keeps what it was asked."""

    def __init__(self) -> None:
        self.opened: tuple[Path, dict[str, object]] | None = None
        self.target = "generic"
        self.asked: list[tuple[str | None, str | None]] = []

    def open(self, bundle: Path, **options: object) -> FakeTranscriber:
        self.opened = (bundle, options)
        return self

    def transcribe(self, samples: NDArray[np.float32], language: str | None, task: str | None) -> Transcript:
        if language == "klingon":
            raise UserError("--language", language, "choose one of en, de")
        self.asked.append((language, task))
        return transcript(f"{len(samples) / 16_000:g} Sekunden, größer", len(samples) / 16_000)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeTranscriber:
    fake = FakeTranscriber()
    monkeypatch.setattr(Transcriber, "open", fake.open)
    return fake


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two good files and a bad one, where the user stands."""
    monkeypatch.chdir(tmp_path)
    for name, seconds in (("one.wav", 1), ("two.flac", 2)):
        soundfile.write(tmp_path / name, np.zeros(16_000 * seconds), 16_000)
    (tmp_path / "bad.wav").write_text("no audio")
    return tmp_path


def invoke(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(transcribe.command)
    return CliRunner().invoke(app, ["bundle", *arguments])


def test_one_file_is_one_line_of_text(fake: FakeTranscriber, folder: Path) -> None:
    ran = invoke("one.wav")
    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, "1 Sekunden, größer\n", "")


def test_several_files_are_named(fake: FakeTranscriber, folder: Path) -> None:
    ran = invoke("one.wav", "two.flac")
    assert ran.stdout == "one.wav: 1 Sekunden, größer\ntwo.flac: 2 Sekunden, größer\n"


@pytest.mark.parametrize("wish", [["--json"], ["--format", "json"]])
def test_a_machine_gets_a_list(fake: FakeTranscriber, folder: Path, wish: list[str]) -> None:
    ran = invoke("one.wav", "two.flac", *wish)
    rows: list[dict[str, Any]] = json.loads(ran.stdout)
    assert [(row["file"], row["text"], row["seconds"]) for row in rows] == [
        ("one.wav", "1 Sekunden, größer", 1.0),
        ("two.flac", "2 Sekunden, größer", 2.0),
    ]
    assert rows[0]["timings"]["total"] > 0


def test_a_bad_file_does_not_stop_the_good_ones(fake: FakeTranscriber, folder: Path) -> None:
    ran = invoke("bad.wav", "one.wav", "absent.wav", "two.flac")
    assert ran.exit_code == 2
    assert ran.stdout.splitlines() == ["one.wav: 1 Sekunden, größer", "two.flac: 2 Sekunden, größer"]
    first, second = ran.stderr.splitlines()
    assert "bad.wav: is not audio" in first and "absent.wav: no such file" in second
    assert len(json.loads(invoke("bad.wav", "one.wav", "--json").stdout)) == 1


def test_options_are_passed_on(fake: FakeTranscriber, folder: Path) -> None:
    invoke(
        "one.wav",
        "--language",
        "de",
        "--task",
        "translate",
        "--threads",
        "3",
        "--accuracy-level",
        "1",
        "--target",
        "pi4",
    )
    assert fake.opened == (
        Path("bundle"),
        {"threads": 3, "accuracy_level": 1, "audio_context": "full", "target": "pi4"},
    )
    assert fake.asked == [("de", "translate")]


def test_a_language_that_cannot_be_ends_it_at_once(fake: FakeTranscriber, folder: Path) -> None:
    with pytest.raises(UserError, match="--language: klingon"):
        raise invoke("one.wav", "two.flac", "--language", "klingon").exception or AssertionError


@pytest.mark.parametrize("board", [[], ["--on", "nobody@127.0.0.1:1"]], ids=["here", "on a board"])
def test_an_audio_context_that_cannot_be_ends_it_before_anything_runs(
    fake: FakeTranscriber, folder: Path, board: list[str]
) -> None:
    ran = invoke("one.wav", "--audio-context", "most", *board)
    assert isinstance(ran.exception, UserError)
    assert "most: give full, auto, or at least 2 seconds" in str(ran.exception)
    assert fake.opened is None


def test_a_folder_that_is_no_bundle_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match="bundle: no such folder"):
        raise invoke("one.wav").exception or AssertionError


@pytest.mark.parametrize("wish", [["--threads", "0"], ["--format", "xml"], ["--accuracy-level", "7"]])
def test_wishes_that_cannot_be_are_usage_errors(fake: FakeTranscriber, folder: Path, wish: list[str]) -> None:
    assert invoke("one.wav", *wish).exit_code == 2


def test_the_help_has_an_example(fake: FakeTranscriber) -> None:
    app = typer.Typer()
    app.command()(transcribe.command)
    assert "edge-deploy transcribe exported/" in CliRunner().invoke(app, ["--help"]).stdout
