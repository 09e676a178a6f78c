"""Pipes and standard input are read as files are."""

from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.audio import opening
from edge_asr_deploy.runtime.audio.reading import read_audio


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.flac", np.random.default_rng(0).normal(size=16_000) * 0.1, 16_000)
    return tmp_path / "a.flac"


def test_a_fifo_is_read(recording: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    writer = threading.Thread(target=lambda: (tmp_path / "fifo").write_bytes(recording.read_bytes()))
    writer.start()
    np.testing.assert_array_equal(read_audio(tmp_path / "fifo"), read_audio(recording))
    writer.join()


def test_a_file_descriptor_of_a_pipe_is_read(recording: Path) -> None:
    """What the shell makes of <(...)."""
    reading, writing = os.pipe()
    os.write(writing, recording.read_bytes())
    os.close(writing)
    try:
        np.testing.assert_array_equal(read_audio(f"/dev/fd/{reading}"), read_audio(recording))
    finally:
        os.close(reading)


def test_a_dash_is_standard_input(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(recording.read_bytes())))
    np.testing.assert_array_equal(read_audio("-"), read_audio(recording))
    with pytest.raises(UserError, match=r"audio: -: is empty \(0 bytes\)"):
        read_audio("-")


def test_no_standard_input_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UserError, match="audio: -: standard input is no file or pipe"):
        read_audio("-")


def test_a_pipe_without_end_is_refused(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "LARGEST_STREAM", 10_000)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(bytes(10_001))))
    with pytest.raises(UserError, match="too much for a pipe; save it to a file"):
        read_audio("-")
    with pytest.raises(UserError, match=r"/dev/zero: .*too much for a pipe"):
        read_audio("/dev/zero")


def test_no_room_for_a_pipe_is_said(monkeypatch: pytest.MonkeyPatch, recording: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(recording / "absent"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(recording.read_bytes())))
    with pytest.raises(UserError, match=r"cannot be kept in the temporary folder .*TMPDIR"):
        read_audio("-")
