"""`edge-deploy evaluate` on boards: the speech goes along as a manifest, the results come back."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from edge_asr_deploy.boards.remote import run_on
from edge_asr_deploy.boards.results import BoardResult, results_of
from edge_asr_deploy.boards.speech import write_corpus
from edge_asr_deploy.files import require_folder
from edge_asr_deploy.harness.evaluation.evaluate import baseline_folder
from edge_asr_deploy.harness.evaluation.options import EvaluateOptions
from edge_asr_deploy.harness.evaluation.result import Result
from edge_asr_deploy.harness.evaluation.speech import load_speech, select
from edge_asr_deploy.options import words

# What is found here and goes along as files, or stays here.
HERE = ("baseline", "data", "limit", "output")


def evaluate_on(
    boards: Sequence[str], bundle: Path, options: EvaluateOptions, console: Console, command: str | None = None
) -> list[BoardResult[Result]]:
    """What `harness.evaluation.evaluate.run` does, on every board at once; arguments as there.

    `output` is one file for each board, as in `results_of`.
    """
    require_folder("--output", options.output)
    folder = baseline_folder(bundle, options.baseline)
    utterances, speech = load_speech(options.data)
    console.print(speech)
    with tempfile.TemporaryDirectory() as temporary:
        corpus = write_corpus(select(utterances, options.limit, options.seed), Path(temporary))
        asked = words(options, leave_out=HERE)
        answers = run_on(
            boards, ["evaluate", bundle, "--baseline", folder or "none", "--data", corpus, "--json", *asked], console
        )
    # The board's first line describes the copied manifest; the speech itself was described here.
    others = [replace(one, messages=one.messages[1:] if one.output else one.messages) for one in answers]
    return results_of(others, Result, {"speech": speech, "command": command}, options.output)
