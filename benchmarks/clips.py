"""The speech that is timed: chosen from the default evaluation speech by length, always the same way."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_asr_deploy.corpora import demo
from edge_asr_deploy.corpora.defaults import evaluation_corpus
from edge_asr_deploy.corpora.utterance import SAMPLE_RATE, Utterance

# Seconds from, to, and how many clips: voice commands, sentences, a whole window of Whisper.
BANDS: dict[str, tuple[float, float, int]] = {
    "1.5-4 s": (1.5, 4.0, 2),
    "5-15 s": (5.0, 15.0, 2),
    "20-30 s": (20.0, 30.0, 1),
}
BEYOND = "44 s"
LONG, LONG_SECONDS = "5 min", 300.0
SHARES = 4


@dataclass(frozen=True)
class Clip:
    """16 kHz mono float32 samples in a .npy file; `band` says how it is counted, `text` what was said."""

    id: str
    band: str
    seconds: float
    text: str | None
    path: str


def by_length(utterances: Sequence[Utterance]) -> list[tuple[str, Utterance]]:
    """Clips of every band, by evenly spread ranks of length; none of them the shortest or longest of the band."""
    chosen = []
    for band, (low, high, number) in BANDS.items():
        inside = [one for one in utterances if one.text and low <= (one.seconds or 0.0) < high]
        ordered = sorted(inside, key=lambda one: (one.seconds, one.id))
        number = min(number, len(ordered))
        chosen += [(band, ordered[int((index + 0.5) * len(ordered) / number)]) for index in range(number)]
    return chosen


def joined(utterances: Sequence[Utterance], seconds: float) -> Utterance:
    """Utterances of the first corpus in order, until `seconds` are full; the last one stays whole."""
    pieces: list[NDArray[np.float32]] = []
    words: list[str] = []
    for one in utterances:
        if one.source == utterances[0].source and one.text and sum(map(len, pieces)) < seconds * SAMPLE_RATE:
            pieces.append(one.samples())
            words.append(one.text)
    samples = np.concatenate(pieces)
    return Utterance("joined", samples, " ".join(words), utterances[0].source, seconds=len(samples) / SAMPLE_RATE)


def timed(folder: Path) -> list[Clip]:
    """All clips that are timed, written to `folder`, shortest first. The last is the long one."""
    utterances, _ = evaluation_corpus()
    chosen = by_length(utterances)
    if demo.is_installed():
        # It is cut for calibration; whole it is longer than one window.
        whole = replace(demo.demo_calibration()[0], id="two_cities", span=None, seconds=None)
        chosen.append((BEYOND, whole))
    chosen.append((LONG, joined(utterances, LONG_SECONDS)))
    return [_written(one, band, folder) for band, one in chosen]


def shares(folder: Path) -> list[list[Clip]]:
    """All speech with a text, dealt into `SHARES`: each has every corpus in it, and says something on its own."""
    spoken = [one for one in evaluation_corpus()[0] if one.text]
    return [[_written(one, one.source, folder) for one in spoken[start::SHARES]] for start in range(SHARES)]


def described(clips: Sequence[Clip]) -> list[dict[str, Any]]:
    """What a store says about its clips: all but where they lie."""
    return [{name: value for name, value in asdict(clip).items() if name != "path"} for clip in clips]


def _written(utterance: Utterance, band: str, folder: Path) -> Clip:
    samples = utterance.samples()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(samples.tobytes()).hexdigest()[:24]}.npy"
    if not path.exists():
        np.save(path, samples)
    return Clip(utterance.id, band, round(len(samples) / SAMPLE_RATE, 3), utterance.text, str(path.resolve()))
