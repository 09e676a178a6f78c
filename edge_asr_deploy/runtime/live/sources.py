"""Where live speech comes from: a microphone, or a file that is played like one. Blocks of 16 kHz samples, one channel.

The microphone needs the package sounddevice (the extra [live]) and PortAudio, which its Linux wheel does not bring.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE, read_audio

if TYPE_CHECKING:
    from types import ModuleType

BLOCK_SECONDS = 0.1
# What waits while the model works, in blocks: a minute. More is dropped, since its text would come too late.
MOST_WAITING = 600


def played(path: Path, realtime: bool) -> Iterator[NDArray[np.float32]]:
    """The blocks of an audio file; in real time each comes when it would have been recorded.

    UserError as for `read_audio`.
    """
    samples = read_audio(path)
    size, started = int(BLOCK_SECONDS * SAMPLE_RATE), monotonic()
    for index in range(0, len(samples), size):
        block = samples[index : index + size]
        if realtime:
            sleep(max(0.0, started + (index + len(block)) / SAMPLE_RATE - monotonic()))
        yield block


def recorded(device: str | None) -> Iterator[NDArray[np.float32]]:
    """What a microphone hears, until the caller stops; what came while the caller worked is one block.

    UserError without PortAudio, without a microphone, for an unknown device, and when the device goes away.
    """
    sound = sounddevice()
    chosen: int | str | None = int(device) if device is not None and device.isdecimal() else device
    waiting: queue.Queue[NDArray[np.float32]] = queue.Queue(MOST_WAITING)

    def arrived(block: NDArray[np.float32], *_: Any) -> None:
        if not waiting.full():
            waiting.put_nowait(block[:, 0].copy())

    try:
        with sound.InputStream(
            SAMPLE_RATE, int(BLOCK_SECONDS * SAMPLE_RATE), chosen, 1, "float32", callback=arrived
        ) as stream:
            while stream.active:
                try:
                    blocks = [waiting.get(timeout=1)]
                except queue.Empty:
                    continue
                while not waiting.empty():
                    blocks.append(waiting.get_nowait())
                yield np.concatenate(blocks)
    except (ValueError, sound.PortAudioError) as error:
        raise _no_microphone(device, error) from None
    raise UserError("microphone", device or "the default", "was taken away; connect it and start again")


def devices() -> str:
    """A line for each device that sound comes from or goes to. UserError without PortAudio."""
    return str(sounddevice().query_devices())


def sounddevice() -> ModuleType:
    """The package. UserError without PortAudio; ModuleNotFoundError without the package."""
    try:
        return import_module("sounddevice")
    except OSError:
        remedy = "install it: `sudo apt install libportaudio2`, or your system's package of PortAudio"
        raise UserError("microphone", "PortAudio is not installed", remedy) from None


def _no_microphone(device: str | None, error: Exception) -> UserError:
    reason = " ".join(str(error.args[0] if error.args else error).split())
    remedy = f"cannot be opened ({reason}); see --list-devices, or play a file with --input"
    return UserError("microphone", device or "the default", remedy)
