"""`edge-deploy evaluate` on boards: sends the speech as a manifest and returns the results."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from edge_asr_deploy.boards.remote import run_on
from edge_asr_deploy.boards.results import BoardResult, results_of
from edge_asr_deploy.boards.speech import write_corpus
from edge_asr_deploy.files import require_writable
from edge_asr_deploy.harness.evaluation.evaluate import baseline_folder
from edge_asr_deploy.harness.evaluation.leaderboard import require_scorer, with_leaderboard
from edge_asr_deploy.harness.evaluation.options import EvaluateOptions
from edge_asr_deploy.harness.evaluation.result import Result
from edge_asr_deploy.harness.evaluation.speech import load_speech, select
from edge_asr_deploy.options import words
from edge_asr_deploy.printing import note_line

# Options that this machine acts on itself: the board gets the files they lead to, or nothing.
HANDLED_HERE = ("baseline", "data", "leaderboard", "limit", "output")


def evaluate_on(
    boards: Sequence[str],
    bundle: Path,
    options: EvaluateOptions,
    console: Console,
    command: str | None = None,
    keep_audio: bool = False,
) -> list[BoardResult[Result]]:
    """Do what `harness.evaluation.evaluate.run` does, on every board at once; the arguments mean the same.

    Each board's result goes to a file of its own, named after `output` (see `results_of`).
    """
    require_writable("--output", options.output)
    if options.leaderboard:
        require_scorer(options.language)
    folder = baseline_folder(bundle, options.baseline)
    utterances, speech = load_speech(options.data)
    console.print(speech)
    with tempfile.TemporaryDirectory() as temporary:
        corpus = write_corpus(select(utterances, options.limit, options.seed), Path(temporary))
        arguments = words(options, leave_out=HANDLED_HERE)
        answers = run_on(
            boards,
            ["evaluate", bundle, "--baseline", folder or "none", "--data", corpus, "--json", *arguments],
            console,
            keep_audio,
        )
    # Boards do not count twice: the texts say all that the second score needs.
    finished = (with_leaderboard,) if options.leaderboard else ()
    results = results_of(answers, Result, {"speech": speech, "command": command}, options.output, *finished)
    return [_with_notes_only(result) for result in results]


def _with_notes_only(board: BoardResult[Result]) -> BoardResult[Result]:
    """Replace a successful board's messages by its notes: the others describe the copied manifest."""
    if board.result is None:
        return board
    notes = tuple(f"{board.answer.board}: {note_line(note)}" for note in board.result.notes)
    return replace(board, answer=replace(board.answer, messages=notes))
