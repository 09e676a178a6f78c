"""`read_sound`: what `read_audio` reads from a file, read from memory; nothing is written to disk."""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.audio.reading import read_audio, read_sound


def content(kind: str, seconds: float = 1.5, rate: int = 22_050) -> bytes:
    file = io.BytesIO()
    noise = 0.1 * np.random.default_rng(0).normal(size=(int(rate * seconds), 2))
    soundfile.write(file, noise, rate, format=kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_memory_gives_the_samples_of_the_file(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = content(kind)
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(data)
    expected = read_audio(path)
    monkeypatch.setattr(tempfile, "TemporaryFile", None)
    assert np.array_equal(read_sound(io.BytesIO(data)), expected)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"no audio" * 100, "is not audio"),
        (content("WAV")[:-1000], "is cut short"),
        (content("WAV", 0.05), "too short"),
    ],
)
def test_what_is_no_audio_is_refused_by_its_name(data: bytes, said: str) -> None:
    with pytest.raises(UserError, match=f"audio: speech.wav: .*{said}"):
        read_sound(io.BytesIO(data), "speech.wav")


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_what_is_longer_than_the_limit_is_refused(kind: str) -> None:
    with pytest.raises(UserError, match=r"than 90 s; cut it into parts"):
        read_sound(io.BytesIO(content(kind, 95, 8_000)), longest=90)
    assert len(read_sound(io.BytesIO(content(kind, 85, 8_000)), longest=90)) >= 16_000 * 85


def test_a_decoding_bomb_stops_at_the_limit() -> None:
    file = io.BytesIO()
    # libsndfile's Vorbis encoder takes no long blocks.
    with soundfile.SoundFile(file, "w", 8_000, 1, format="OGG", subtype="VORBIS") as sound:
        for _ in range(600):
            sound.write(np.zeros(8_000))
    small, started = file.getvalue(), time.process_time()
    with pytest.raises(UserError, match="longer than 10 s"):
        read_sound(io.BytesIO(small), longest=10)
    assert len(small) < 100_000 and time.process_time() - started < 1
