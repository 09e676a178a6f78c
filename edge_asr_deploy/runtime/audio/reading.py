"""Reads audio files as the models need them: 16 kHz, one channel, float32."""

from __future__ import annotations

import warnings
from os import PathLike
from pathlib import Path

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
    from edge_asr_deploy.runtime.audio.containers.parts import parts
    from edge_asr_deploy.runtime.audio.containers.stored import Refused, Stored
    from edge_asr_deploy.runtime.audio.decoding import Samples, decode
    from edge_asr_deploy.runtime.audio.opening import opened

    path = Path(path)
    samples, seconds, notes = Samples(SAMPLE_RATE), 0.0, []
    try:
        with opened(path) as file:
            for part in parts(Stored(file)):
                seconds += decode(file, part, samples)
                notes += [part.note] if part.note else []
        if not seconds:
            raise Refused("holds no samples; record it again")
        if seconds < SHORTEST_SECONDS:
            raise Refused(f"has {seconds:.2g} s, too short to hold a word; record at least 0.1 s")
    except Refused as fault:
        raise UserError("audio", path, str(fault)) from None
    except FileNotFoundError:
        raise UserError("audio", path, "no such file; check the path") from None
    except OSError as error:
        raise UserError("audio", path, f"cannot be read ({error.strerror}); check its permissions") from None
    except MemoryError:
        raise UserError("audio", path, "is too long for this machine's memory; cut it into parts") from None
    for note in notes:
        warnings.warn(Note(f"{path}: {note}"), stacklevel=2)
    return samples.done()
