"""Files whose headers are wrong, that hold several recordings, or that expand without end."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from edge_asr_deploy.errors import Note, UserError
from edge_asr_deploy.runtime.audio import decoding
from edge_asr_deploy.runtime.audio.containers import ogg
from edge_asr_deploy.runtime.audio.reading import read_audio

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
PLAIN = ("wav", "rf64", "w64", "aiff", "au", "caf")
TAG = b"ID3\x04\0\0" + bytes([0, 0, 2, 10]) + bytes(266)
OLD_TAG = b"TAG" + bytes(125)
# Where each header has its length of samples, how it is written, and what it counts beside the samples.
LENGTHS = {"wav": (b"data", 4, "<I", 0), "aiff": (b"SSND", 4, ">I", 8), "au": (b".snd", 8, ">I", 0)}
LENGTHS |= {"rf64": (b"ds64", 16, "<Q", 0), "w64": (b"data", 16, "<Q", 24), "caf": (b"data", 4, ">Q", 0)}


def noise(seconds: float, seed: int = 0, rate: int = 16_000) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=round(seconds * rate)) * 0.1


def content(folder: Path, suffix: str, samples: NDArray[np.float64], rate: int = 16_000) -> bytes:
    """A whole file of that kind."""
    path = folder / f"whole.{suffix}"
    kind, subtype = FORMATS[suffix]
    soundfile.write(path, samples, rate, format=kind, subtype=subtype)
    return path.read_bytes()


def written(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def with_length(data: bytes, suffix: str, change: Callable[[int], int]) -> bytes:
    """The file with another length of its samples, and every other field as it was."""
    name, offset, form, more = LENGTHS[suffix]
    place = data.index(name) + offset
    size = struct.calcsize(form)
    length = struct.unpack(form, data[place : place + size])[0] - more
    return data[:place] + struct.pack(form, change(length) + more) + data[place + size :]


@pytest.mark.parametrize("suffix", FORMATS)
def test_recordings_written_behind_each_other_are_all_read(tmp_path: Path, suffix: str) -> None:
    first, second = content(tmp_path, suffix, noise(1)), content(tmp_path, suffix, noise(0.7, 1))
    parts = [read_audio(written(tmp_path, f"{name}.{suffix}", data)) for name, data in (("a", first), ("b", second))]
    both = read_audio(written(tmp_path, f"both.{suffix}", first + second))
    np.testing.assert_array_equal(both, np.concatenate(parts))


def test_recordings_may_be_of_several_kinds_and_rates_with_tags_between(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = content(tmp_path, "mp3", noise(1)), content(tmp_path, "mp3", noise(1, 1, 8000), 8000)
    song = written(tmp_path, "a.mp3", TAG + first + OLD_TAG + TAG + second + OLD_TAG)
    assert len(read_audio(song)) == 32_000
    mixed = written(tmp_path, "a.bin", content(tmp_path, "wav", noise(1)) + TAG + content(tmp_path, "flac", noise(1)))
    assert len(read_audio(mixed)) == 32_000
    # mpg123 writes of lengths that it does not understand.
    assert capfd.readouterr().err == ""


def without_first_frame(mp3: bytes) -> bytes:
    """An MP3 that does not tell its length: 288 bytes are 72,000 times its first kbit/s by its rate in Hz."""
    assert b"Xing" in mp3[:288] and mp3[288] == 0xFF
    return mp3[288:]


def test_mp3_without_a_length_is_read_to_its_end(tmp_path: Path) -> None:
    """From the first bit rate, which is higher than the others, the decoder guesses half of it."""
    data = without_first_frame(content(tmp_path, "mp3", noise(3)))
    assert len(read_audio(written(tmp_path, "a.mp3", data))) > 48_000
    other = without_first_frame(content(tmp_path, "mp3", noise(3, 1, 8000), 8000))
    assert len(read_audio(written(tmp_path, "a.mp3", data + TAG + other))) > 96_000


def test_mp3_joined_behind_the_first_length_is_read_to_its_end(tmp_path: Path) -> None:
    first, second = (content(tmp_path, "mp3", noise(3, seed)) for seed in (0, 1))
    path = written(tmp_path, "a.mp3", first + without_first_frame(second))
    with pytest.warns(Note, match=r"it has \d+ frames more than it promises"):
        assert len(read_audio(path)) > 96_000


def test_a_cut_second_recording_is_named(tmp_path: Path) -> None:
    whole = content(tmp_path, "wav", noise(1))
    with pytest.raises(UserError, match=rf"number 2, at byte {len(whole)}, is cut short \(16022 bytes are missing\)"):
        read_audio(written(tmp_path, "a.wav", whole + whole[: len(whole) // 2]))


@pytest.mark.parametrize("more", [1, 16, 44])
@pytest.mark.parametrize("suffix", ["wav", "rf64", "w64", "aiff", "caf"])
def test_a_length_that_counts_the_header_is_noted(tmp_path: Path, suffix: str, more: int) -> None:
    samples = np.round(noise(1) * 32_768) / 32_768
    data = with_length(content(tmp_path, suffix, samples), suffix, lambda length: length + more)
    with pytest.warns(Note, match=rf"a\.{suffix}: its header promises {more} bytes? more than there are") as notes:
        read = read_audio(written(tmp_path, f"a.{suffix}", data))
    assert len(notes) == 1
    np.testing.assert_array_equal(read, samples.astype(np.float32))


@pytest.mark.parametrize("suffix", ["wav", "rf64", "w64", "aiff"])
def test_a_length_twice_as_long_is_noted_where_the_file_is_whole(tmp_path: Path, suffix: str) -> None:
    data = with_length(content(tmp_path, suffix, noise(1)), suffix, lambda length: 2 * length)
    with pytest.warns(Note, match="32000 bytes more"):
        assert len(read_audio(written(tmp_path, f"a.{suffix}", data))) == 16_000


@pytest.mark.parametrize("suffix", ["wav", "rf64", "w64", "au"])
def test_what_a_recorder_left_that_was_switched_off_is_read(tmp_path: Path, suffix: str) -> None:
    data = with_length(content(tmp_path, suffix, noise(1)), suffix, lambda _: 0)
    with pytest.warns(Note, match="promises no samples; the 32000 bytes behind it were read"):
        assert len(read_audio(written(tmp_path, f"a.{suffix}", data))) == 16_000


def test_an_aiff_of_a_recorder_that_was_switched_off_is_read(tmp_path: Path) -> None:
    """It has its length three times: in FORM, as frames in COMM, and in SSND."""
    data = bytearray(with_length(content(tmp_path, "aiff", noise(1)), "aiff", lambda _: 0))
    common = data.index(b"COMM")
    data[4:8], data[common + 10 : common + 14] = bytes(4), bytes(4)
    with pytest.warns(Note, match="promises no samples"):
        assert len(read_audio(written(tmp_path, "a.aiff", bytes(data)))) == 16_000


def test_samples_behind_those_that_a_header_counts_are_read(tmp_path: Path) -> None:
    """A recorder that writes its header every second, switched off in between."""
    data = bytearray(with_length(content(tmp_path, "wav", noise(1)), "wav", lambda length: length // 2))
    data[4:8] = struct.pack("<I", 36 + 16_000)
    with pytest.warns(Note, match="16000 bytes less than there are; all of them were read"):
        assert len(read_audio(written(tmp_path, "a.wav", bytes(data)))) == 16_000


@pytest.mark.parametrize("behind", [bytes(100_000), b"\x01" * 4000], ids=["zeros", "a little junk"])
def test_what_is_no_sound_behind_a_recording_is_left_out(tmp_path: Path, behind: bytes) -> None:
    path = written(tmp_path, "a.wav", content(tmp_path, "wav", noise(1)) + behind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_audio(path)) == 16_000


@pytest.mark.parametrize("suffix", PLAIN)
@pytest.mark.parametrize("kept", [0.5, 0.9, 0.98])
def test_a_recording_without_its_end_is_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    data = content(tmp_path, suffix, noise(3))
    start = len(data) - 96_000
    with pytest.raises(UserError, match="is cut short"):
        read_audio(written(tmp_path, f"a.{suffix}", data[: start + int(kept * 96_000)]))


@pytest.mark.parametrize("behind", [b"", b"LIST" + struct.pack("<I", 4) + b"INFO"], ids=["nothing", "a chunk"])
def test_a_recording_without_samples_is_refused(tmp_path: Path, behind: bytes) -> None:
    with pytest.raises(UserError, match="holds no samples"):
        read_audio(written(tmp_path, "a.wav", content(tmp_path, "wav", noise(0)) + behind))


@pytest.mark.parametrize("suffix", PLAIN)
def test_good_headers_give_no_note(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path, f"a.{suffix}", content(tmp_path, suffix, noise(1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_audio(path)) == 16_000


def test_an_odd_chunk_without_padding_is_passed_over(tmp_path: Path) -> None:
    data = content(tmp_path, "wav", noise(1))
    note = struct.pack("<4sI", b"note", 3) + b"abc"
    assert len(read_audio(written(tmp_path, "a.wav", data[:36] + note + data[36:]))) == 16_000


def test_millions_of_empty_chunks_are_refused_at_once(tmp_path: Path) -> None:
    data = content(tmp_path, "wav", noise(1))
    path = written(tmp_path, "a.wav", data[:36] + (b"junk" + bytes(4)) * 1_000_000 + data[36:])
    started = time.process_time()
    with pytest.raises(UserError, match="has more than 1000 chunks"):
        read_audio(path)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("suffix", ["ogg", "opus"])
def test_an_ogg_page_with_a_wrong_checksum_is_refused(tmp_path: Path, suffix: str) -> None:
    data = bytearray(content(tmp_path, suffix, noise(3)))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(UserError, match=r"the Ogg page at byte \d+ has a wrong checksum"):
        read_audio(written(tmp_path, f"a.{suffix}", bytes(data)))


def test_the_checksum_of_ogg_is_a_division_of_polynomials() -> None:
    page = b"OggS" + bytes(range(200))
    value = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
    assert ogg.checksum(page) == value


@pytest.mark.parametrize(
    ("rate", "is_read"), [(1, False), (3999, False), (4000, True), (768_000, True), (768_001, False)]
)
def test_rates_that_no_recorder_has_are_refused(tmp_path: Path, rate: int, is_read: bool) -> None:
    path = written(tmp_path, "a.wav", content(tmp_path, "wav", noise(1, rate=rate), rate))
    if is_read:
        assert len(read_audio(path)) == 16_000
    else:
        with pytest.raises(UserError, match=f"has a sample rate of {rate} Hz, outside 4 kHz to 768 kHz"):
            read_audio(path)


@pytest.mark.parametrize("factor", [1e30, 32_767])
def test_floats_far_beyond_full_scale_are_refused(tmp_path: Path, factor: float) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1) * factor, 16_000, subtype="FLOAT")
    with pytest.raises(UserError, match=r"holds samples of .*, where full scale is 1; divide by"):
        read_audio(tmp_path / "a.wav")


def without_length(flac: bytes) -> bytes:
    """A FLAC that does not say how long it is: the low 36 bits of STREAMINFO's bytes 10 to 18 are 0."""
    fields = int.from_bytes(flac[18:26], "big") >> 36 << 36
    return flac[:18] + fields.to_bytes(8, "big") + flac[26:]


@pytest.mark.parametrize("says_so", [True, False])
def test_a_recording_beyond_the_longest_is_refused(
    tmp_path: Path, says_so: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = content(tmp_path, "flac", np.zeros(16_000 * 20))
    monkeypatch.setattr(decoding, "LONGEST_SECONDS", 10)
    with pytest.raises(UserError, match=r"longer than 10 s; cut|more than 10 s; cut"):
        read_audio(written(tmp_path, "a.flac", data if says_so else without_length(data)))


@pytest.mark.parametrize("kept", [0.3, 0.9, 1.0])
def test_a_flac_from_a_pipe_is_read_unless_it_is_cut(tmp_path: Path, kept: float) -> None:
    data = without_length(content(tmp_path, "flac", noise(3)))
    path = written(tmp_path, "a.flac", data[: int(kept * len(data))])
    if kept == 1:
        assert len(read_audio(path)) == 48_000
    else:
        with pytest.raises(UserError, match="cut short"):
            read_audio(path)


def test_hours_of_silence_in_a_small_file_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    data = bytearray(content(tmp_path, "flac", np.zeros(16_000)))
    hours = 50
    fields = int.from_bytes(data[18:26], "big") >> 36 << 36 | hours * 3600 * 16_000
    data[18:26] = fields.to_bytes(8, "big")
    with pytest.raises(UserError, match="holds 50 hours, more than 6"):
        read_audio(written(tmp_path, "a.flac", bytes(data)))


PEAK = """
import resource, sys
import numpy, soundfile, soxr
from edge_asr_deploy.runtime.audio.reading import read_audio
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read_audio(sys.argv[2])
before = peak()
samples = read_audio(sys.argv[1])
print((peak() - before) * 1024, samples.nbytes)
"""


def test_a_long_stereo_recording_takes_the_memory_of_its_samples(tmp_path: Path) -> None:
    """Ten minutes of 44.1 kHz stereo, 212 MB as floats: what is returned, and some blocks."""
    second = np.stack([noise(1, rate=44_100)] * 2, axis=1)
    for name, seconds in (("long", 600), ("short", 1)):
        with soundfile.SoundFile(tmp_path / f"{name}.wav", "w", 44_100, 2) as file:
            for _ in range(seconds):
                file.write(second)
    arguments = [str(tmp_path / "long.wav"), str(tmp_path / "short.wav")]
    ran = subprocess.run([sys.executable, "-c", PEAK, *arguments], capture_output=True, text=True, env=os.environ)
    grown, returned = map(int, ran.stdout.split())
    assert returned == 600 * 16_000 * 4
    assert grown < returned + 40_000_000


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100])
def test_blocks_are_resampled_as_the_whole(tmp_path: Path, rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same samples to the last bit, so that fingerprints of recordings stay."""
    import soxr

    samples = noise(3, rate=rate).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    monkeypatch.setattr(decoding, "BLOCK", 1000)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), soxr.resample(samples, rate, 16_000, quality="HQ"))
