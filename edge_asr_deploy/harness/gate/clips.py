"""Golden clips: a few short ones whose transcripts by the good bundle are in its record."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from edge_asr_deploy.runtime.transcriber import Transcript

# Seconds; longer clips take time and tell no more.
LONGEST = 10.0


def choose(utterances: Sequence[Utterance], number: int) -> list[Utterance]:
    """About `number` clips with a text, the same each time: as many of each corpus, short ones where there are any."""
    with_text = [utterance for utterance in utterances if utterance.text]
    short = [utterance for utterance in with_text if utterance.seconds is None or utterance.seconds <= LONGEST]
    pool = short or with_text
    corpora = len({utterance.source for utterance in pool})
    return select(pool, math.ceil(number / max(1, corpora)))[:number]


def known_speech(data: Sequence[Path]) -> list[Utterance]:
    """Where a record's clips are looked for: in `data`, else in the default speech and in the demo wheel's clip.

    The wheel is what every machine can have, whatever its default speech is. UserError as `load_speech`.
    """
    utterances, _ = load_speech(data)
    return utterances if data or not demo.is_installed() else [*utterances, *demo.demo_evaluation()]


def find(
    clips: Sequence[GoldenClip], utterances: Sequence[Utterance], normalizer: Normalizer, progress: Progress
) -> list[Item] | str:
    """The recordings of these clips, in their order; or, where one is missing or changed, a sentence that says so."""
    known = {(utterance.source, utterance.id): utterance for utterance in utterances}
    found = [known.get((clip.source, clip.id)) for clip in clips]
    present = [utterance for utterance in found if utterance is not None]
    if len(present) < len(clips):
        return f"{len(clips) - len(present)} of the record's {len(clips)} clips are not in this speech; give --data"
    items = prepare(present, normalizer, progress)
    changed = [clip.id for clip, item in zip(clips, items, strict=False) if clip.fingerprint != item.fingerprint]
    if changed or len(items) < len(clips):
        return f"{', '.join(changed[:3]) or 'a clip'} is another recording than the record's; give --data"
    return items


def hear(bundle: Path, items: Sequence[Item], listening: Listening, progress: Progress) -> list[Transcript]:
    """Transcribe in a process of its own; nothing is taken from a cache. UserError when the bundle does not run."""
    options = language_options(bundle, listening.language)
    settings = SessionSettings(threads=listening.threads, accuracy_level=listening.accuracy_level)
    with Worker(bundle, settings, audio_context=listening.audio_context) as worker:
        transcripts, finished = [], Counter(progress, f"transcribing with {bundle.name}", len(items))
        for item in items:
            transcripts.append(worker.transcribe(item.utterance.samples(), options).transcript)
            finished()
        return transcripts


def text_of(clip: GoldenClip) -> Text:
    """What was recorded, to be judged like a fresh transcript."""
    return Text(clip.text, len(clip.tokens.split()), windows=1, hit_length_cap=False)
