"""`edge-deploy listen`: files that are played like a microphone, and machines without one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from click.testing import Result
from typer.testing import CliRunner

from edge_asr_deploy.cli import app
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.live import sources
from edge_asr_deploy.runtime.live.events import Event, Final, Partial, SpeechStarted
from edge_asr_deploy.runtime.transcriber import Transcriber
from edge_asr_deploy.runtime.transcript import Segment

FINAL = Final(Segment(0.5, 2.0, "Lights on.", (1, 2), -0.1, None, 1.0, 0.0))


class FakeStream:
    def __init__(self) -> None:
        self.heard = 0

    def push(self, samples: np.ndarray) -> list[Event]:
        self.heard += len(samples)
        return [SpeechStarted(0.5), Partial("Lights", "")] if self.heard == len(samples) else []

    def finish(self) -> list[Event]:
        return [FINAL]


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> FakeStream:
    found = FakeStream()
    transcriber = SimpleNamespace(stream=lambda language, task: found)
    monkeypatch.setattr(Transcriber, "open", lambda bundle, **options: transcriber)
    return found


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "clip.wav", np.zeros(8_000), 16_000)
    return tmp_path / "clip.wav"


def invoke(*words: str) -> Result:
    return CliRunner().invoke(app, ["listen", *words])


def error(*words: str) -> str:
    found = invoke(*words).exception
    assert isinstance(found, UserError)
    return str(found)


def test_final_texts_are_lines(stream: FakeStream, clip: Path) -> None:
    assert invoke("bundle", "--input", str(clip)).stdout == "Lights on.\n"
    assert stream.heard == 8_000


def test_every_event_is_a_line_of_json(stream: FakeStream, clip: Path) -> None:
    lines = [json.loads(line) for line in invoke("bundle", "--input", str(clip), "--json").stdout.splitlines()]
    assert [line["event"] for line in lines] == ["speech_started", "partial", "final"]
    assert lines[1] == {"event": "partial", "text": "Lights", "stable": ""}
    assert lines[2]["segment"]["text"] == "Lights on."


def test_in_real_time_a_block_comes_when_it_was_recorded(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(sources, "monotonic", lambda: 0.0)
    monkeypatch.setattr(sources, "sleep", slept.append)
    assert sum(map(len, sources.played(clip, realtime=True))) == 8_000
    assert slept == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    slept.clear()
    assert sum(map(len, sources.played(clip, realtime=False))) == 8_000 and not slept


def test_without_portaudio_it_says_what_to_install(stream: FakeStream, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError("PortAudio library not found")

    monkeypatch.setattr(sources, "import_module", missing)
    assert "apt install libportaudio2" in error("bundle")
    assert "apt install libportaudio2" in error("--list-devices")


class PortAudioError(Exception):
    pass


def test_without_a_microphone_it_says_so(stream: FakeStream, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PortAudioError("Error querying device -1")

    fake = SimpleNamespace(InputStream=refused, PortAudioError=PortAudioError)
    monkeypatch.setattr(sources, "import_module", lambda name: fake)
    assert "--list-devices" in error("bundle")
    assert "kitchen" in error("bundle", "--device", "kitchen")


def test_a_microphone_is_heard_until_it_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class Microphone:
        def __init__(self, rate: int, size: int, device: object, channels: int, kind: str, callback: object) -> None:
            assert (rate, device, channels, kind) == (16_000, 3, 1, "float32")
            self.callback, self.left = callback, 3

        def __enter__(self) -> Microphone:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        @property
        def active(self) -> bool:
            self.left -= 1
            if self.left >= 0:
                self.callback(np.full((1600, 1), 0.5, np.float32), 1600, None, None)  # type: ignore[operator]
            return self.left >= 0

    fake = SimpleNamespace(InputStream=Microphone, PortAudioError=PortAudioError)
    monkeypatch.setattr(sources, "import_module", lambda name: fake)
    heard = []
    with pytest.raises(UserError, match="taken away"):
        for block in sources.recorded("3"):
            heard.append(block)
    assert [len(block) for block in heard] == [1600] * 3 and heard[0][0] == 0.5


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["bundle", "--realtime"], "--input"),
        (["bundle", "--device", "1", "--input", "x.wav"], "--device"),
        (["bundle", "--audio-context", "much"], "--audio-context"),
        ([], "edge-deploy listen BUNDLE"),
    ],
)
def test_options_that_cannot_be_are_refused(words: list[str], expected: str) -> None:
    assert expected in error(*words)


def test_the_extra_is_named_where_the_package_is_missing(
    stream: FakeStream, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from edge_asr_deploy import cli

    monkeypatch.setitem(sys.modules, "sounddevice", None)
    monkeypatch.setattr(sys, "argv", ["edge-deploy", "listen", "bundle"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and "edge-asr-deploy[live]" in capsys.readouterr().err
