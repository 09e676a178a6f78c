"""`python hear.py BUNDLE... < CLIPS`: what bundles say of wav files, as JSON; run with the release that is asked for.

It needs the base install alone. A bundle that cannot be opened or run has its error in place of texts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.transcriber import Transcriber


def heard(bundle: str, clips: list[str]) -> list[str] | str:
    """The tokens of every clip, or in one line why there are none."""
    try:
        transcriber = Transcriber.open(Path(bundle), SessionSettings(threads=1))
        found = [transcriber.transcribe(Path(clip)) for clip in clips]
    except Exception as error:  # whatever a release raises is the result
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
    return [" ".join(map(str, one.tokens)) for one in found]


if __name__ == "__main__":
    clips = sys.stdin.read().split()
    json.dump({bundle: heard(bundle, clips) for bundle in sys.argv[1:]}, sys.stdout)
