"""`edge-deploy bench` on boards: sends the audio of each length and returns the times."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from edge_asr_deploy.boards.remote import run_on
from edge_asr_deploy.boards.results import BoardResult, results_of
from edge_asr_deploy.boards.speech import write_corpus
from edge_asr_deploy.boards.sync import Files
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.files import require_writable
from edge_asr_deploy.harness.benchmark.fixed_lengths import fixed_lengths
from edge_asr_deploy.harness.benchmark.options import BenchOptions
from edge_asr_deploy.harness.benchmark.result import Benchmark, FixedLength
from edge_asr_deploy.harness.evaluation.evaluate import baseline_folder
from edge_asr_deploy.harness.evaluation.speech import load_speech
from edge_asr_deploy.options import words


def bench_on(
    boards: Sequence[str],
    bundle: Path,
    options: BenchOptions,
    console: Console,
    command: str | None = None,
    keep_audio: bool = False,
) -> list[BoardResult[Benchmark]]:
    """Do what `harness.benchmark.bench.run` does, on every board at once; the arguments mean the same.

    This machine cuts and joins the audio, and the results describe it as it was made here. Each board's result goes to
    a file of its own, named after `output` (see `results_of`).
    """
    require_writable("--output", options.output)
    folder = baseline_folder(bundle, options.baseline)
    utterances, _ = load_speech(options.data)
    audio = fixed_lengths(utterances, options.lengths)
    with tempfile.TemporaryDirectory() as temporary:
        corpus = lengths_as_corpus(audio, Path(temporary))
        arguments = words(options, leave_out=("baseline", "data", "output"))
        answers = run_on(
            boards,
            ["bench", bundle, "--baseline", folder or "none", "--data", corpus, "--json", *arguments],
            console,
            keep_audio,
        )
    shared = {"audio": [fixed_length for _, fixed_length in audio], "command": command}
    return results_of(answers, Benchmark, shared, options.output)


def lengths_as_corpus(audio: Sequence[tuple[Utterance, FixedLength]], folder: Path) -> Files:
    """A corpus from which `fixed_lengths` on the board picks, for each length, exactly the clip made here.

    The corpus states no durations, because they are rounded: the board must count samples to find the right clip.
    """
    return write_corpus([replace(utterance, seconds=None) for utterance, _ in audio], folder)
