"""`edge-deploy bench` on boards: the audio of each length goes along, the times come back."""

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
from edge_asr_deploy.files import require_folder
from edge_asr_deploy.harness.benchmark.fixed_lengths import stretches
from edge_asr_deploy.harness.benchmark.options import BenchOptions
from edge_asr_deploy.harness.benchmark.result import Benchmark, Stretch
from edge_asr_deploy.harness.evaluation.evaluate import baseline_folder
from edge_asr_deploy.harness.evaluation.speech import load_speech
from edge_asr_deploy.options import words


def bench_on(
    boards: Sequence[str], bundle: Path, options: BenchOptions, console: Console, command: str | None = None
) -> list[BoardResult[Benchmark]]:
    """What `harness.benchmark.bench.run` does, on every board at once; arguments as there.

    The audio is cut and joined here, and named so in the results. `output` is one file for each board, as in
    `results_of`.
    """
    require_folder("--output", options.output)
    folder = baseline_folder(bundle, options.baseline)
    utterances, _ = load_speech(options.data)
    audio = stretches(utterances, options.lengths)
    with tempfile.TemporaryDirectory() as temporary:
        corpus = lengths_as_corpus(audio, Path(temporary))
        asked = words(options, leave_out=("baseline", "data", "output"))
        answers = run_on(
            boards, ["bench", bundle, "--baseline", folder or "none", "--data", corpus, "--json", *asked], console
        )
    shared = {"audio": [stretch for _, stretch in audio], "command": command}
    return results_of(answers, Benchmark, shared, options.output)


def lengths_as_corpus(audio: Sequence[tuple[Utterance, Stretch]], folder: Path) -> Files:
    """A corpus in which `stretches` finds, for each length, the very clip of that length.

    Without their durations, which are rounded: the samples decide.
    """
    return write_corpus([replace(utterance, seconds=None) for utterance, _ in audio], folder)
