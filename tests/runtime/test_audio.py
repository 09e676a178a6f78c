"""Any usual audio file becomes 16 kHz mono; any broken one becomes one line that names it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.audio.reading import read_audio

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def tone(rate: int = 16_000, channels: int = 1, seconds: float = 1.0) -> np.ndarray:
    """440 Hz at half scale; the second channel is silent."""
    samples = np.zeros((round(rate * seconds), channels))
    samples[:, 0] = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(samples)) / rate)
    return samples


def write(path: Path, samples: np.ndarray, rate: int = 16_000, subtype: str | None = None) -> Path:
    kind, usual = FORMATS[path.suffix[1:]]
    soundfile.write(path, samples, rate, format=kind, subtype=subtype or usual)
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    samples = read_audio(write(tmp_path / f"tone.{suffix}", tone()))
    assert samples.dtype == np.float32 and samples.shape == (16_000,)
    middle = samples[4_000:12_000]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 96_000])
def test_every_rate_becomes_16_khz(tmp_path: Path, rate: int) -> None:
    samples = read_audio(write(tmp_path / "tone.wav", tone(rate), rate))
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples[4_000:12_000], tone()[4_000:12_000, 0], atol=2e-3)


def test_channels_are_averaged(tmp_path: Path) -> None:
    samples = read_audio(write(tmp_path / "tone.wav", tone(channels=2)))
    np.testing.assert_allclose(samples, tone()[:, 0] / 2, atol=1e-4)


def test_full_scale_of_integers_is_one(tmp_path: Path) -> None:
    codes = np.full(16_000, -(2**15), np.int16)
    assert set(read_audio(write(tmp_path / "a.wav", codes))) == {-1.0}


def test_float_files_are_not_clipped(tmp_path: Path) -> None:
    assert set(read_audio(write(tmp_path / "a.wav", np.full(16_000, 1.5), subtype="FLOAT"))) == {1.5}


@pytest.mark.parametrize("kept", [0.01, 0.3, 0.9, 0.98])
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_that_was_cut_short_is_refused(
    tmp_path: Path, suffix: str, kept: float, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).normal(size=48_000) * 0.1
    content = write(tmp_path / f"whole.{suffix}", noise).read_bytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(UserError, match=rf"cut\.{suffix}: is .*cut short"):
        read_audio(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("length", [2**32 - 1, 0x7FFFF000])
def test_wav_from_a_pipe_has_no_length_and_is_whole(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "pipe.wav", tone())
    content = bytearray(path.read_bytes())
    content[40:44] = struct.pack("<I", length)
    path.write_bytes(content)
    assert len(read_audio(path)) == 16_000


def test_chunks_before_the_samples_are_passed_over(tmp_path: Path) -> None:
    content = write(tmp_path / "a.wav", tone()).read_bytes()
    note = struct.pack("<4sI", b"note", 3) + b"abc\0"
    whole = content[:36] + note + content[36:]
    path = tmp_path / "noted.wav"
    path.write_bytes(whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:])
    assert len(read_audio(path)) == 16_000
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match="2000 bytes are missing"):
        read_audio(path)


def test_mp3_with_a_tag_in_front_is_read_and_a_cut_one_is_not(tmp_path: Path) -> None:
    tag = b"ID3\x04\0\0" + bytes([0, 0, 2, 10]) + bytes(266)
    content = tag + write(tmp_path / "a.mp3", tone()).read_bytes()
    path = tmp_path / "tagged.mp3"
    path.write_bytes(content)
    assert len(read_audio(path)) == 16_000
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(UserError, match="cut short"):
        read_audio(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    samples = tone()
    samples[100] = value
    with pytest.raises(UserError, match=r"a\.wav: holds samples that are not numbers"):
        read_audio(write(tmp_path / "a.wav", samples, subtype="FLOAT"))


@pytest.mark.parametrize(
    ("seconds", "message"), [(0.05, "has 0.05 s, too short to hold a word"), (0, "holds no samples")]
)
def test_too_short_is_refused(tmp_path: Path, seconds: float, message: str) -> None:
    with pytest.raises(UserError, match=rf"a\.wav: {message}"):
        read_audio(write(tmp_path / "a.wav", tone(seconds=seconds)))
    assert len(read_audio(write(tmp_path / "a.wav", tone(seconds=0.1)))) == 1_600


@pytest.mark.parametrize("name", ["song.mp3", "note.wav", "a.flac", "samples.raw", "film.m4a"])
@pytest.mark.parametrize("content", [b"this is a letter, not a song\n" * 99, bytes(5000), bytes(range(256)) * 20])
def test_what_is_not_audio_is_said_in_one_line(
    tmp_path: Path, name: str, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: is not audio") as error:
        read_audio(tmp_path / name)
    assert "convert" in str(error.value) and "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_missing_empty_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.wav: no such file"):
        read_audio(tmp_path / "absent.wav")
    with pytest.raises(UserError, match="is a folder"):
        read_audio(tmp_path)
    (tmp_path / "empty.wav").touch()
    with pytest.raises(UserError, match=r"empty\.wav: is empty"):
        read_audio(tmp_path / "empty.wav")
