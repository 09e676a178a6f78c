"""Calibration speech is never evaluation speech."""

from __future__ import annotations

from collections.abc import Sequence

from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError

NAMED = 3


def refuse_overlap(calibration: Sequence[Utterance], evaluation: Sequence[Utterance]) -> None:
    """UserError when a recording is in both, by the fingerprint of its audio; it names the calibration clips."""
    judged = {utterance.fingerprint() for utterance in evaluation}
    both = [utterance.id for utterance in calibration if utterance.fingerprint() in judged]
    if both:
        names = ", ".join(both[:NAMED]) + (f" and {len(both) - NAMED} more" if len(both) > NAMED else "")
        remedy = "choose other speech with --calibration, for a word error rate on these clips would flatter"
        raise UserError("calibration", names, f"is in the evaluation set too; {remedy}")
