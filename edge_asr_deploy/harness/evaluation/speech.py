"""The speech a bundle is judged on: chosen, read, its references normalized, and none of it used in calibration."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_asr_deploy.bundle.manifest import Manifest
from edge_asr_deploy.corpora import common_voice, open_asr
from edge_asr_deploy.corpora.defaults import evaluation_corpus
from edge_asr_deploy.corpora.manifest import read_manifest
from edge_asr_deploy.corpora.normalize import Normalizer
from edge_asr_deploy.corpora.utterance import SAMPLE_RATE, Utterance
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.progress import Counter, Progress, silent

_READERS = {open_asr.PREFIX: open_asr.read_open_asr, common_voice.PREFIX: common_voice.read_common_voice}


@dataclass(frozen=True)
class Item:
    """An utterance ready to be judged: `reference` is normalized and not empty, `seconds` is measured."""

    utterance: Utterance
    reference: str
    fingerprint: str
    seconds: float


def load_speech(data: Sequence[str | Path], progress: Progress = silent) -> tuple[list[Utterance], str]:
    """The utterances of this speech, or of the default evaluation corpus; and a sentence that says which.

    Each of `data` is a JSONL manifest, `open-asr:SET[:N]` or `common-voice:LANGUAGE[:N]`; `progress` is told of every
    clip that comes from the Hub. A clip of the Hub that is named twice is taken once. UserError as the readers.
    """
    if not data:
        return evaluation_corpus()
    utterances: list[Utterance] = []
    fetched = Counter(progress, "fetching clips from the Hub")
    for one in map(str, data):
        reader = next((reader for prefix, reader in _READERS.items() if one.startswith(prefix)), None)
        if reader is None:
            utterances += read_manifest(Path(one))
        else:
            known = {(utterance.source, utterance.id) for utterance in utterances}
            utterances += [u for u in reader(one, fetched) if (u.source, u.id) not in known]
    names = ", ".join(name if name.startswith(tuple(_READERS)) else Path(name).name for name in map(str, data))
    return utterances, f"Evaluated on {names} ({len(utterances)} utterances)."


def select(utterances: Sequence[Utterance], limit: int | None, seed: int = 0) -> list[Utterance]:
    """At most `limit` utterances of each corpus, drawn by `seed`, in their old order."""
    by_corpus: dict[str, list[int]] = defaultdict(list)
    for index, utterance in enumerate(utterances):
        by_corpus[utterance.source].append(index)
    kept: list[int] = []
    for indices in by_corpus.values():
        few = limit is None or len(indices) <= limit
        kept += indices if few else random.Random(seed).sample(indices, limit or 0)
    return [utterances[index] for index in sorted(kept)]


def prepare(utterances: Sequence[Utterance], normalizer: Normalizer, progress: Progress) -> list[Item]:
    """Normalize the references and read the audio once; utterances without a reference are dropped.

    UserError when none is left.
    """
    items, read = [], Counter(progress, "reading speech", len(utterances))
    for utterance in utterances:
        reference = normalizer(utterance.text or "")
        if reference:
            seconds = len(utterance.samples()) / SAMPLE_RATE
            items.append(Item(utterance, reference, utterance.fingerprint(), seconds))
        read()
    if not items:
        raise UserError(
            "--data", f"{len(utterances)} utterances", "none has a text to compare with; add `text` to the rows"
        )
    return items


def refuse_calibrated_on(manifest: Manifest, items: Sequence[Item]) -> None:
    """UserError when the bundle was calibrated on one of these recordings: its WER there would flatter it."""
    seen = set(manifest.calibration.utterance_fingerprints) if manifest.calibration else set()
    both = [item.utterance.id for item in items if item.fingerprint in seen]
    if both:
        named = ", ".join(both[:3]) + (f" and {len(both) - 3} more" if len(both) > 3 else "")
        remedy = "choose other speech with --data, or calibrate on other speech"
        raise UserError("--data", named, f"`{manifest.name}` was calibrated on this speech; {remedy}")
