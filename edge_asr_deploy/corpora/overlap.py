"""Refuses calibration speech that is also evaluation speech."""

from __future__ import annotations

from collections.abc import Sequence

from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError

NAMED = 3


def refuse_overlap(calibration: Sequence[Utterance], evaluation: Sequence[Utterance]) -> None:
    """UserError, naming the calibration clips, when a recording (by its fingerprint) is in both."""
    evaluated = {utterance.fingerprint() for utterance in evaluation}
    both = [utterance.id for utterance in calibration if utterance.fingerprint() in evaluated]
    if both:
        names = ", ".join(both[:NAMED]) + (f" and {len(both) - NAMED} more" if len(both) > NAMED else "")
        remedy = "choose other speech with --calibration, for a word error rate on these clips would flatter"
        raise UserError("calibration", names, f"is in the evaluation set too; {remedy}")
