"""Golden clips: short clips whose transcripts by the good bundle are in its record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_asr_deploy.corpora import demo
from edge_asr_deploy.corpora.normalize import Normalizer
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.harness.evaluation.evaluate import language_options
from edge_asr_deploy.harness.evaluation.process import Worker
from edge_asr_deploy.harness.evaluation.speech import Item, load_speech, prepare, select
from edge_asr_deploy.harness.evaluation.transcripts import Text
from edge_asr_deploy.harness.gate.baseline import GoldenClip, Listening
from edge_asr_deploy.progress import Counter, Progress
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.transcript import Transcript

# Seconds. Longer clips take more time and show nothing more.
LONGEST = 10.0


@dataclass(frozen=True)
class Unavailable:
    """Something that a check needs is missing; `reason` says what, and how to provide it."""

    reason: str


def choose(utterances: Sequence[Utterance], number: int) -> list[Utterance]:
    """Choose about `number` clips with a text, equally many of each corpus, short ones if there are any.

    The choice is the same in every run.
    """
    with_text = [utterance for utterance in utterances if utterance.text]
    short = [utterance for utterance in with_text if utterance.seconds is None or utterance.seconds <= LONGEST]
    pool = short or with_text
    corpora = len({utterance.source for utterance in pool})
    return select(pool, math.ceil(number / max(1, corpora)))[:number]


def available_speech(data: Sequence[Path]) -> list[Utterance]:
    """The speech in which a record's clips are looked for: `data`, else the default speech and the demo wheel's clip.

    The demo wheel can be installed on every machine, whereas default speech differs. UserError as `load_speech`.
    """
    utterances, _ = load_speech(data)
    return utterances if data or not demo.is_installed() else [*utterances, *demo.demo_evaluation()]


def recordings(clips: Sequence[GoldenClip], utterances: Sequence[Utterance]) -> list[Utterance] | Unavailable:
    """The utterances with the names of these clips, in their order. Unavailable when one is missing."""
    by_id = {(utterance.source, utterance.id): utterance for utterance in utterances}
    matches = [by_id.get((clip.source, clip.id)) for clip in clips]
    present = [utterance for utterance in matches if utterance is not None]
    if len(present) < len(clips):
        missing = len(clips) - len(present)
        return Unavailable(f"{missing} of the record's {len(clips)} clips are not in this speech; give --data")
    return present


def find(
    clips: Sequence[GoldenClip], present: Sequence[Utterance], normalizer: Normalizer, progress: Progress
) -> list[Item] | Unavailable:
    """The recordings of these clips, ready to be scored. Unavailable when one has changed or has no text."""
    items = prepare(present, normalizer, progress).items
    changed = [clip.id for clip, item in zip(clips, items, strict=False) if clip.fingerprint != item.fingerprint]
    if changed or len(items) < len(clips):
        names = ", ".join(changed[:3]) or "a clip"
        return Unavailable(f"{names} is another recording than the record's; give --data")
    return items


def transcribe(
    bundle: Path, items: Sequence[Item], listening: Listening, progress: Progress, target: str | None = None
) -> list[Transcript]:
    """Transcribe in a process of its own, without any cache, with the graphs of `target` or of this CPU's.

    UserError when the bundle does not run.
    """
    options = language_options(bundle, listening.language)
    settings = SessionSettings(threads=listening.threads, accuracy_level=listening.accuracy_level)
    with Worker(bundle, settings, target, listening.audio_context, caches=False) as worker:
        transcripts, clip_done = [], Counter(progress, f"transcribing with {bundle.name}", len(items))
        for item in items:
            transcripts.append(worker.transcribe(item.utterance.samples(), options).transcript)
            clip_done()
        return transcripts


def text_of(clip: GoldenClip) -> Text:
    """The recorded transcript in the form in which a fresh one is scored."""
    return Text(clip.text, len(clip.tokens.split()), windows=1, hit_length_cap=False)
