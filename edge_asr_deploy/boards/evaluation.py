"""`edge-deploy evaluate` on boards: the speech goes along as a manifest, the results come back."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from edge_asr_deploy.boards.remote import run_on, words
from edge_asr_deploy.boards.results import BoardResult, results_of
from edge_asr_deploy.boards.speech import MANIFEST, write_corpus
from edge_asr_deploy.boards.sync import Files
from edge_asr_deploy.files import require_folder
from edge_asr_deploy.harness.evaluation.evaluate import EvaluationSettings, baseline_folder
from edge_asr_deploy.harness.evaluation.result import Result
from edge_asr_deploy.harness.evaluation.speech import load_speech, select


def evaluate_on(
    boards: Sequence[str],
    bundle: Path,
    baseline: str,
    data: Sequence[str | Path],
    limit: int | None,
    settings: EvaluationSettings,
    cache: bool,
    output: Path | None,
    messages: Console,
    command: str | None = None,
) -> list[BoardResult[Result]]:
    """What `harness.evaluation.evaluate.run` does, on every board at once; arguments as there.

    `output` is one file for each board, as in `results_of`.
    """
    require_folder("--output", output)
    folder = baseline_folder(bundle, baseline)
    utterances, speech = load_speech(data)
    messages.print(speech)
    with tempfile.TemporaryDirectory() as temporary:
        corpus = write_corpus(select(utterances, limit, settings.seed), Path(temporary))
        arguments: list[str | Path | Files] = ["evaluate", bundle, "--baseline", folder or "none", "--data", corpus]
        arguments += ["--json", "--threads", str(settings.threads), "--language", settings.language]
        arguments += ["--jobs", str(settings.jobs), "--speed" if settings.clips else "--no-speed"]
        arguments += ["--cache" if cache else "--no-cache"]
        how = {
            "--accuracy-level": settings.accuracy_level,
            "--target": settings.target,
            "--audio-context": settings.audio_context,
        }
        arguments += words(how)
        answers = run_on(boards, arguments, messages)
    # The board's first line names the copied manifest; the real name was printed here.
    named = f"Evaluated on {Path(MANIFEST).name}"
    shown = [replace(one, messages=tuple(line for line in one.messages if named not in line)) for one in answers]
    return results_of(shown, Result, {"speech": speech, "command": command}, output)
