"""The two recordings that the vendor's wheel `moonshine-voice` carries: enough for a demo on any machine."""

from __future__ import annotations

import hashlib
import importlib.util
from itertools import pairwise
from pathlib import Path

from edge_asr_deploy.corpora.utterance import SAMPLE_RATE, Utterance
from edge_asr_deploy.errors import UserError

WHEEL = "moonshine-voice==0.0.4"
_HASHES = {
    "beckett.wav": "e5a26b3d29e5b0bc8dbd72c11d16a3808a4ec0ac45b21f12a27d2a2fe5c5ae61",
    "two_cities.wav": "f3348494d77cb74a02862f5e685ed09faf3e75832c5cc5c80703282c2cd8b52e",
}
_BECKETT = "Ever tried, ever failed. No matter. Try again. Fail again. Fail better."
# Seconds; each lies in the middle of a pause of two_cities.wav, whose last two seconds are silent.
_PAUSES = (0.0, 8.51, 17.13, 24.33, 32.54, 42.25)


def is_installed() -> bool:
    """True when the wheel is installed; its package is not imported."""
    return importlib.util.find_spec("moonshine_voice") is not None


def demo_evaluation() -> list[Utterance]:
    """beckett.wav, 10 s, with its text. UserError when the file is not that of the pinned wheel."""
    return [Utterance("beckett", _asset("beckett.wav"), _BECKETT, "moonshine-voice", "beckett", 9.96)]


def demo_calibration() -> list[Utterance]:
    """two_cities.wav, cut at pauses into five clips without text. UserError as for `demo_evaluation`."""
    path = _asset("two_cities.wav")
    clips = []
    for number, (start, end) in enumerate(pairwise(_PAUSES)):
        span = (round(start * SAMPLE_RATE), round(end * SAMPLE_RATE))
        name = f"two_cities-{number}"
        clips.append(Utterance(name, path, None, "moonshine-voice", "two_cities", round(end - start, 2), span))
    return clips


def _asset(name: str) -> Path:
    spec = importlib.util.find_spec("moonshine_voice")
    remedy = f"pip install --force-reinstall --no-deps {WHEEL}"
    if spec is None or spec.origin is None:
        raise UserError("speech", name, f"the wheel that carries it is not installed; {remedy}")
    path = Path(spec.origin).parent / "assets" / name
    if not path.is_file():
        raise UserError("speech", path, f"is missing; {remedy}")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 != _HASHES[name]:
        raise UserError("speech", path, f"has sha256 {sha256}, pinned is {_HASHES[name]}; {remedy}")
    return path
