"""Speech that calibrates a model must not judge it."""

from __future__ import annotations

from collections.abc import Sequence

from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError


def refuse_overlap(calibration: Sequence[Utterance], evaluation: Sequence[Utterance]) -> None:
    """UserError, naming the clips, when a recording is in both sets, whatever it is called there."""
    judged = {utterance.fingerprint() for utterance in evaluation}
    both = [utterance.id for utterance in calibration if utterance.fingerprint() in judged]
    if both:
        named = ", ".join(both[:3]) + (f" and {len(both) - 3} more" if len(both) > 3 else "")
        raise UserError("calibration", named, "is also evaluation speech; give other speech with --calibration")
