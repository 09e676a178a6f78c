"""`python hear.py JOB`: what bundles say of sound files, as JSON; run with the release that is asked for.

A job is a JSON object with lists of `bundles` and `clips`.

It needs the base install alone. A bundle that cannot be opened or run has its error in place of texts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.transcriber import Transcriber


def heard(bundle: str, clips: list[str]) -> list[str] | str:
    """The text of every clip, or in one line why there is none. What small random models say are tokens."""
    try:
        transcriber = Transcriber.open(Path(bundle), SessionSettings(threads=1), vad=False)
        found = [transcriber.transcribe(Path(clip)) for clip in clips]
    except Exception as error:  # whatever a release raises is the result
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
    return [one.text for one in found]


if __name__ == "__main__":
    job = json.loads(Path(sys.argv[1]).read_text())
    json.dump({bundle: heard(bundle, job["clips"]) for bundle in job["bundles"]}, sys.stdout)
