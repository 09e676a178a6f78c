"""A bundle in a process of its own."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.evaluation import worker
from edge_asr_deploy.harness.evaluation.process import Worker
from edge_asr_deploy.runtime.session import SessionSettings
from tests.support.fakes import transcript


def ask(monkeypatch: pytest.MonkeyPatch, requests: bytes, transcribe: Any) -> list[dict[str, Any]]:
    def open_bundle(bundle: str, settings: SessionSettings, **options: object) -> SimpleNamespace:
        assert (bundle, settings.threads) == ("tiny", 1)
        assert options == {"audio_context": None, "target": None, "vad": True, "verify": False}
        return SimpleNamespace(transcribe=transcribe)

    monkeypatch.setattr(worker, "Transcriber", SimpleNamespace(open=open_bundle))
    replies = io.BytesIO()
    job = {"bundle": "tiny", "settings": {"threads": 1}, "target": None, "audio_context": None, "vad": True}
    worker.serve(io.BytesIO(json.dumps(job).encode() + b"\n" + requests), replies)
    return [json.loads(line) for line in replies.getvalue().splitlines()]


def test_samples_arrive_as_sent_whatever_bytes_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    # 0x0a0a0a0a is four line ends and also a float.
    clips = [np.full(3, 0x0A0A0A0A, dtype=np.uint32).view(np.float32), np.linspace(-1, 1, 5, dtype=np.float32)]
    received: list[np.ndarray] = []

    def transcribe(samples: np.ndarray, language: str) -> object:
        received.append(samples)
        return transcript(f"{language} text", 1.0)

    requests = b"".join(
        json.dumps({"samples": len(clip), "options": {"language": "de"}}).encode() + b"\n" + clip.tobytes()
        for clip in clips
    )
    loaded, *replies = ask(monkeypatch, requests, transcribe)
    assert loaded["load_seconds"] >= 0
    for sent, arrived in zip(clips, received, strict=True):
        np.testing.assert_array_equal(arrived, sent)
    assert [reply["transcript"]["text"] for reply in replies] == ["de text", "de text"]
    assert all(reply["peak_rss"] > 1_000_000 for reply in replies)


def test_what_the_user_can_mend_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def transcribe(samples: np.ndarray) -> None:
        raise UserError("--language", "xx", "choose another")

    replies = ask(monkeypatch, b'{"samples": 0, "options": {}}\n', transcribe)
    assert replies[-1] == {"error": ["--language", "xx", "choose another"]}


def test_a_bundle_that_does_not_open_is_the_same_error_in_the_parent(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=str(tmp_path)):
        Worker(tmp_path / "absent", SessionSettings(threads=1))


def test_a_process_that_dies_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\nread line\nkill -9 $$\n")
    dying.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dying))
    with pytest.raises(UserError, match=r"code -9.*memory") as caught:
        Worker(tmp_path, SessionSettings())
    assert "\n" not in str(caught.value)


def measure_peak(statement: str) -> int:
    imports = "import numpy; from edge_asr_deploy.harness.evaluation.worker import peak_rss"
    script = f"{imports}; {statement}; print(peak_rss())"
    return int(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout)


def test_peak_memory_is_that_of_the_process_and_not_of_its_parent() -> None:
    ballast = np.ones(400_000_000, dtype=np.uint8)
    assert 20_000_000 < measure_peak("pass") < ballast.nbytes


def test_peak_memory_remembers_what_is_gone() -> None:
    grown = measure_peak("ballast = numpy.ones(200_000_000, dtype=numpy.uint8); del ballast")
    assert grown - measure_peak("pass") == pytest.approx(200_000_000, rel=0.1)


def test_modules_in_the_current_folder_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person's `random.py` or `numpy.py` beside the audio is none of the worker's business."""
    for name in ("random", "numpy", "onnxruntime", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        Worker(tmp_path / "absent", SessionSettings(threads=1))
