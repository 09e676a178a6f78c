"""Decodes the recordings of a file in blocks: mixed, resampled and collected, without a second copy in memory."""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING

import numpy as np
import soundfile
from numpy.typing import NDArray

from edge_asr_deploy.runtime.audio.containers.stored import Part, Refused, Section
from edge_asr_deploy.runtime.audio.mixing import mix
from edge_asr_deploy.runtime.audio.samples import LOUDEST, SCALED, peak

if TYPE_CHECKING:
    import soxr

# Frames that are decoded at once: 8 MB of stereo, and no more of many channels. libsndfile's MP3 depends on it in the
# last bit, and so do the fingerprints of recordings.
BLOCK = 1 << 20
UNKNOWN_FRAMES = 1 << 40
# Telephones have 8 kHz; below 4 kHz no speech is left, and above 768 kHz no converter exists: the header is wrong.
LOWEST_RATE, HIGHEST_RATE = 4_000, 768_000
# Longer than any meeting. Its samples take 1.4 GB, while a compressed file of silence may hold weeks in 10 MB.
LONGEST_SECONDS = 6 * 3600
CONVERT = "convert it to WAV, FLAC, OGG or MP3 (ffmpeg -i FILE out.wav)"
CUT = "cut it into parts (ffmpeg -i FILE -f segment -segment_time 3600 part%d.wav)"
# A buffer of unknown length grows by a quarter each time it is full.
GROWTH = 1.25


class Samples:
    """Samples at `rate` Hz, collected block by block in one array: at most `longest` seconds.

    No more than that is decoded, whatever a small compressed file would become. It lowers the usual limit only.
    """

    def __init__(self, rate: int, longest: float | None = None) -> None:
        self.rate, self.length = rate, 0
        self.longest = LONGEST_SECONDS if longest is None else min(longest, LONGEST_SECONDS)
        self._array = np.empty(0, np.float32)

    def expect(self, number: int) -> None:
        """Make room for so many more."""
        needed = self.length + number
        if not self.length:
            # Memory that is never filled costs nothing: a header may promise hours.
            self._array = np.empty(needed, np.float32)
        elif needed > len(self._array):
            # It owns its data and nobody else has it, so the memory may move: no copy is made of large arrays.
            self._array.resize(needed, refcheck=False)

    def add(self, block: NDArray[np.float32]) -> None:
        """Append a block. Refused beyond the longest recording that is read."""
        stop = self.length + len(block)
        if stop > self.longest * self.rate:
            raise Refused(f"is longer than {spelled(self.longest)}; {CUT}")
        if stop > len(self._array):
            self.expect(max(len(block), int(GROWTH * len(self._array)) - self.length))
        self._array[self.length : stop] = block
        self.length = stop

    def done(self) -> NDArray[np.float32]:
        """All samples, shape (samples,)."""
        self._array.resize(self.length, refcheck=False)
        return self._array


class _Sound(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is not sought in where its length is not known.

    soundfile seeks after each block it has read, which libsndfile refuses for a FLAC from a pipe.
    """

    def seekable(self) -> bool:
        """Whether positions can be sought."""
        return bool(self.frames < UNKNOWN_FRAMES)


def spelled(seconds: float) -> str:
    """A length in hours, or in seconds below one hour."""
    if seconds < 3600:
        return f"{seconds:.4g} s"
    hours = f"{seconds / 3600:.3g}"
    return f"{hours} hour{'' if hours == '1' else 's'}"


def decode(file: IO[bytes], part: Part, samples: Samples) -> float:
    """Append a recording of a file to `samples`, one channel, and return its length in seconds.

    Refused when it is not audio, damaged, cut short, too long, or holds samples that are no audio.
    """
    # What is in memory has no descriptor.
    is_stored = isinstance(file, io.FileIO | io.BufferedIOBase) and not isinstance(file, io.BytesIO)
    is_whole = is_stored and not part.header and part.start == 0 and part.stop == file.seek(0, io.SEEK_END)
    # libsndfile begins where the descriptor stands.
    file.seek(0)
    try:
        # Opened without its name: given a name in `.mp3`, libsndfile searches any content for MPEG frames and prints
        # notes.
        with _Sound(file.fileno() if is_whole else Section(file, part), closefd=False) as sound:
            return _decoded(sound, samples)
    except soundfile.LibsndfileError as error:
        # libsndfile sets a prefix only on errors of opening a file.
        if error.prefix:
            raise Refused(f"is not audio in a supported format; {CONVERT}") from None
        raise Refused("is damaged or cut short; copy or record it again") from None


def _decoded(sound: soundfile.SoundFile, samples: Samples) -> float:
    rate = sound.samplerate
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        limits = f"{LOWEST_RATE // 1000} kHz to {HIGHEST_RATE // 1000} kHz"
        raise Refused(f"has a sample rate of {rate} Hz, outside {limits}; record it again, or mend its header")
    # Only FLAC states a length: for other formats libsndfile derives it from the size of the file, which
    # `containers` has checked. A FLAC stream from a pipe states none. For MP3 it is a guess.
    promised = sound.frames if sound.frames < UNKNOWN_FRAMES and sound.format == "FLAC" else None
    if promised is not None and promised > samples.longest * rate:
        raise Refused(f"holds {spelled(promised / rate)}, more than {spelled(samples.longest)}; {CUT}")
    if sound.format != "MP3" and sound.frames <= samples.longest * rate:
        samples.expect(-(-sound.frames * samples.rate // rate))
    resample = _resampler(rate, samples.rate)
    length = min(BLOCK, 2 * BLOCK // sound.channels)
    frames = 0
    while len(block := sound.read(length, dtype="float32", always_2d=True)):
        frames += len(block)
        _check(block)
        mono = mix(block, rate)
        samples.add(mono if resample is None else resample.resample_chunk(mono))
    if resample is not None:
        samples.add(resample.resample_chunk(np.zeros(0, np.float32), last=True))
    if promised is not None and frames < promised:
        lengths = f"{frames / rate:.2f} s of the {promised / rate:.2f} s that its header promises"
        raise Refused(f"is cut short ({lengths}); copy or record it again")
    return float(frames / rate)


def _check(block: NDArray[np.float32]) -> None:
    loudest = peak(block)
    if not np.isfinite(loudest):
        raise Refused("holds samples that are not numbers (NaN or infinite); export it again")
    if loudest > LOUDEST:
        raise Refused(f"holds samples of {loudest:.6g}, where full scale is 1; {SCALED}, and export it again")


def _resampler(rate: int, wanted: int) -> soxr.ResampleStream | None:
    """A resampler that is fed in blocks; the samples are the same as of the whole recording at once."""
    if rate == wanted:
        return None
    import soxr

    return soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")
