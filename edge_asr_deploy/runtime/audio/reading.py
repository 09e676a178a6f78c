"""Reads audio files as the models need them: 16 kHz, one channel, float32."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from os import PathLike
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.errors import Note, UserError

SAMPLE_RATE = 16_000
# A shorter recording cannot hold even a short word, so it must be broken.
SHORTEST_SECONDS = 0.1


def read_audio(path: str | PathLike[str]) -> NDArray[np.float32]:
    """Samples of a WAV, FLAC, OGG or MP3 file, shape (samples,), 16 kHz, channels averaged, full scale 1.

    Also of a pipe, and of standard input for `-`. Recordings that were written behind each other are read one after the
    other; channels that cancel each other are not averaged: the loudest is taken.

    UserError when the file is missing, empty, not audio, cut short, shorter than 0.1 s or longer than 6 hours, or holds
    NaN, infinity or floats far beyond full scale. A `Note`, which is a warning, when its header was wrong and what is
    there was read.
    """
    # Imported only here, because programs that record from a microphone do not need them and libsndfile's 3 MB.
    from edge_asr_deploy.runtime.audio.opening import opened

    path = Path(path)
    return _read(lambda: opened(path), path, None)


def read_sound(file: IO[bytes], name: str = "file", longest: float | None = None) -> NDArray[np.float32]:
    """The same of an open binary file that can be sought in, such as `io.BytesIO`. Nothing is written to disk.

    Messages call it `name`. `longest` is a lower limit than 6 hours, in seconds: decoding stops there.
    """
    return _read(lambda: nullcontext(file), name, longest)


def _read(
    opening: Callable[[], AbstractContextManager[IO[bytes]]], name: Path | str, longest: float | None
) -> NDArray[np.float32]:
    from edge_asr_deploy.runtime.audio.containers.parts import parts
    from edge_asr_deploy.runtime.audio.containers.stored import Refused, Stored
    from edge_asr_deploy.runtime.audio.decoding import Samples, decode

    samples, seconds, notes = Samples(SAMPLE_RATE, longest), 0.0, []
    try:
        with opening() as file:
            stored = Stored(file)
            if not stored.size:
                raise Refused("is empty (0 bytes); copy or record it again")
            for part in parts(stored):
                seconds += decode(file, part, samples)
                notes += [part.note] if part.note else []
        if not seconds:
            raise Refused("holds no samples; record it again")
        if seconds < SHORTEST_SECONDS:
            raise Refused(f"has {seconds:.2g} s, too short to hold a word; record at least 0.1 s")
    except Refused as fault:
        raise UserError("audio", name, str(fault)) from None
    except FileNotFoundError:
        raise UserError("audio", name, "no such file; check the path") from None
    except OSError as error:
        raise UserError("audio", name, f"cannot be read ({error.strerror}); check its permissions") from None
    except MemoryError:
        raise UserError("audio", name, "is too long for this machine's memory; cut it into parts") from None
    for note in notes:
        warnings.warn(Note(f"{name}: {note}"), stacklevel=3)
    return samples.done()
