"""The speech for an evaluation: chosen and read, with normalized references, and separate from calibration speech."""

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
    """An utterance ready to be scored: `reference` is normalized and not empty, `seconds` comes from the samples."""

    utterance: Utterance
    reference: str
    fingerprint: str
    seconds: float


@dataclass(frozen=True)
class Prepared:
    """The items, how many utterances have no reference, and those whose audio cannot be read, each with the reason."""

    items: list[Item]
    without_text: int
    unreadable: list[tuple[Utterance, str]]


def load_speech(
    data: Sequence[str | Path], progress: Progress = silent, missing_too: bool = False
) -> tuple[list[Utterance], str]:
    """The utterances of this speech, or of the default evaluation corpus, and a sentence that describes them.

    Each of `data` is a JSONL manifest, `open-asr:SET[:N]` or `common-voice:LANGUAGE[:N]`. `progress` reports every clip
    that comes from the Hub. A clip of the Hub that `data` names twice is taken once. Raises the readers' UserErrors;
    `missing_too` takes rows of manifests whose file is not there.
    """
    if not data:
        return evaluation_corpus()
    utterances: list[Utterance] = []
    fetched = Counter(progress, "fetching clips from the Hub")
    for name in map(str, data):
        reader = next((reader for prefix, reader in _READERS.items() if name.startswith(prefix)), None)
        if reader is None:
            utterances += read_manifest(Path(name), missing_too)
        else:
            already_read = {(utterance.source, utterance.id) for utterance in utterances}
            utterances += [clip for clip in reader(name, fetched) if (clip.source, clip.id) not in already_read]
    names = ", ".join(name if name.startswith(tuple(_READERS)) else Path(name).name for name in map(str, data))
    return utterances, f"Evaluated on {names} ({len(utterances)} utterances)."


def select(utterances: Sequence[Utterance], limit: int | None, seed: int = 0) -> list[Utterance]:
    """Draw at most `limit` utterances of each corpus with `seed`. They stay in their order."""
    by_corpus: dict[str, list[int]] = defaultdict(list)
    for index, utterance in enumerate(utterances):
        by_corpus[utterance.source].append(index)
    chosen: list[int] = []
    for indices in by_corpus.values():
        if limit is None or len(indices) <= limit:
            chosen += indices
        else:
            chosen += random.Random(seed).sample(indices, limit)
    return [utterances[index] for index in sorted(chosen)]


def prepare(
    utterances: Sequence[Utterance], normalizer: Normalizer, progress: Progress, skip_unreadable: bool = False
) -> Prepared:
    """Normalize the references and read the audio once. Utterances without a reference are left out and counted.

    UserError when no utterance is left, and for audio that cannot be read unless `skip_unreadable`.
    """
    items: list[Item] = []
    unreadable: list[tuple[Utterance, str]] = []
    without_text, utterance_read = 0, Counter(progress, "reading speech", len(utterances))
    for utterance in utterances:
        reference = normalizer(utterance.text or "")
        try:
            if reference:
                seconds = len(utterance.samples()) / SAMPLE_RATE
                items.append(Item(utterance, reference, utterance.fingerprint(), seconds))
            else:
                without_text += 1
        except UserError as error:
            if not skip_unreadable:
                raise
            unreadable.append((utterance, str(error)))
        utterance_read()
    if not items and unreadable:
        raise UserError("--data", f"{len(utterances)} utterances", f"none can be used; the first: {unreadable[0][1]}")
    if not items:
        raise UserError("--data", f"{len(utterances)} utterances", "none has a reference text; add `text` to the rows")
    return Prepared(items, without_text, unreadable)


def refuse_calibrated_on(manifest: Manifest, items: Sequence[Item]) -> None:
    """UserError when the bundle was calibrated on one of these recordings, because its WER there would be too good."""
    seen = set(manifest.calibration.utterance_fingerprints) if manifest.calibration else set()
    both = [item.utterance.id for item in items if item.fingerprint in seen]
    if both:
        named = ", ".join(both[:3]) + (f" and {len(both) - 3} more" if len(both) > 3 else "")
        remedy = "choose other speech with --data, or calibrate on other speech"
        raise UserError("--data", named, f"`{manifest.name}` was calibrated on this speech; {remedy}")
