"""Do the files of a layout say what their bundle says? Both hear the same clips."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from edge_asr_deploy.bundle.manifest import read_manifest
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.layouts.layout import Heard, Layout
from edge_asr_deploy.progress import Counter, Progress
from edge_asr_deploy.runtime.audio.reading import SAMPLE_RATE
from edge_asr_deploy.runtime.decoding.whisper import DETECT
from edge_asr_deploy.runtime.transcriber import Transcriber

# Engines hear less than Whisper's 30 s at once: sherpa-onnx leaves out the last half second.
LONGEST = 29 * SAMPLE_RATE
# Features that differ in their last bit now and then move an activation over a rounding edge, and then a word. A wrong
# graph says something else altogether.
LEAST_AGREEMENT = 0.8


def measure_agreement(
    bundle: Path, folder: Path, layout: Layout, utterances: Sequence[Utterance], progress: Progress
) -> dict[str, Any]:
    """How many clips and tokens were compared, and the share of tokens that agree.

    UserError where less than `LEAST_AGREEMENT` do.
    """
    # Layouts are made of the graphs with Optimum's names, which are those of the first target.
    target = next(iter(read_manifest(bundle).targets))
    transcriber = Transcriber.open(bundle, audio_context="full", verify=False, vad=False, target=target)
    count = Counter(progress, "comparing", len(utterances))
    agreeing = total = 0
    for utterance in utterances:
        samples = utterance.samples()[:LONGEST]
        wanted = transcriber.transcribe(samples, language=DETECT).tokens
        heard = layout.hear(bundle, folder, samples)
        agreeing += _agreeing(wanted, heard)
        total += len(heard.tokens) if heard.is_capped else max(len(wanted), len(heard.tokens))
        count()
    share = agreeing / total if total else 1.0
    if share < LEAST_AGREEMENT:
        said = f"its files for another engine agree with it on {share:.0%} of the tokens only; report this"
        raise UserError("layout", bundle.name, said)
    return {"clips": len(utterances), "tokens": total, "agreement": share}


def _agreeing(wanted: Sequence[int], heard: Heard) -> int:
    """The number of tokens that both have, in the same order."""
    matcher = SequenceMatcher(None, list(wanted), list(heard.tokens), autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks())
