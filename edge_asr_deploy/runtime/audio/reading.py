"""Reads audio files as the models need them: 16 kHz, one channel, float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.audio.containers import missing_bytes

SAMPLE_RATE = 16_000
# A shorter recording cannot hold even a short word, so it must be broken.
SHORTEST_SECONDS = 0.1
BLOCK = 1 << 20
UNKNOWN_FRAMES = 1 << 40
CONVERT = "convert it to WAV, FLAC, OGG or MP3 (ffmpeg -i FILE out.wav)"


def read_audio(path: str | Path) -> NDArray[np.float32]:
    """Samples of a WAV, FLAC, OGG or MP3 file, shape (samples,), 16 kHz, channels averaged, full scale 1.

    UserError when the file is missing, empty, not audio, cut short or shorter than 0.1 s, or holds NaN or infinity.
    """
    path = Path(path)
    _check_file(path)
    samples, rate, promised = _decode(path)
    if promised is not None and len(samples) < promised:
        lengths = f"{len(samples) / rate:.2f} s of the {promised / rate:.2f} s that its header promises"
        raise UserError("audio", path, f"is cut short ({lengths}); copy or record it again")
    if not len(samples):
        raise UserError("audio", path, "holds no samples; record it again")
    if not np.isfinite(samples).all():
        raise UserError("audio", path, "holds samples that are not numbers (NaN or infinite); export it again")
    if len(samples) / rate < SHORTEST_SECONDS:
        raise UserError(
            "audio", path, f"has {len(samples) / rate:.2g} s, too short to hold a word; record at least 0.1 s"
        )
    if rate == SAMPLE_RATE:
        return samples
    import soxr

    resampled: NDArray[np.float32] = soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ")
    return resampled


def _check_file(path: Path) -> None:
    """Find the faults that are visible without decoding. UserError for each of them."""
    try:
        if path.is_dir():
            raise UserError("audio", path, "is a folder; name the files in it")
        if path.stat().st_size == 0:
            raise UserError("audio", path, "is empty (0 bytes); copy or record it again")
        missing = missing_bytes(path)
        if missing:
            raise UserError("audio", path, f"is cut short ({missing} bytes are missing); copy or record it again")
    except FileNotFoundError:
        raise UserError("audio", path, "no such file; check the path") from None
    except OSError as error:
        raise UserError("audio", path, f"cannot be read ({error.strerror}); check its permissions") from None


def _decode(path: Path) -> tuple[NDArray[np.float32], int, int | None]:
    """Mono samples at the file's own rate, this rate, and how many samples the header promises (None: unknown)."""
    # Imported only here, because programs that record from a microphone do not need its 3 MB.
    import soundfile

    try:
        # Opened without its name: given a name in `.mp3`, libsndfile searches any content for MPEG frames and prints
        # notes.
        with path.open("rb") as handle, soundfile.SoundFile(handle.fileno(), closefd=False) as file:
            blocks = []
            while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
                blocks.append(block.mean(axis=1) if file.channels > 1 else block[:, 0])
            samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
            # Only FLAC states a length: for other formats libsndfile derives it from the size of the file, which
            # `missing_bytes` has checked. A FLAC stream from a pipe states none.
            states_length = file.format == "FLAC" and file.frames < UNKNOWN_FRAMES
            return samples, file.samplerate, file.frames if states_length else None
    except soundfile.LibsndfileError as error:
        # libsndfile sets a prefix only on errors of opening a file.
        if error.prefix:
            raise UserError("audio", path, f"is not audio in a supported format; {CONVERT}") from None
        raise UserError("audio", path, "is damaged or cut short; copy or record it again") from None
