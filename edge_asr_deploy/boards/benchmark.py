"""`edge-deploy bench` on boards: the audio of each length goes along, the times come back."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from edge_asr_deploy.boards.remote import run_on, words
from edge_asr_deploy.boards.results import BoardResult, results_of
from edge_asr_deploy.boards.speech import write_corpus
from edge_asr_deploy.boards.sync import Files
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.files import require_folder
from edge_asr_deploy.harness.benchmark.fixed_lengths import stretches
from edge_asr_deploy.harness.benchmark.result import Benchmark, Options, Stretch
from edge_asr_deploy.harness.evaluation.evaluate import baseline_folder
from edge_asr_deploy.harness.evaluation.speech import load_speech


def bench_on(
    boards: Sequence[str],
    bundle: Path,
    baseline: str,
    data: Sequence[str | Path],
    options: Options,
    output: Path | None,
    messages: Console,
    command: str | None = None,
) -> list[BoardResult[Benchmark]]:
    """What `harness.benchmark.bench.run` does, on every board at once; arguments as there.

    The audio is cut and joined here, and named so in the results. `output` is one file for each board, as in
    `results_of`.
    """
    require_folder("--output", output)
    folder = baseline_folder(bundle, baseline)
    utterances, _ = load_speech(data)
    audio = stretches(utterances, options.lengths)
    with tempfile.TemporaryDirectory() as temporary:
        corpus = lengths_as_corpus(audio, Path(temporary))
        arguments: list[str | Path | Files] = ["bench", bundle, "--baseline", folder or "none", "--data", corpus]
        arguments += ["--json", "--threads", ",".join(map(str, options.threads)), "--language", options.language]
        arguments += ["--lengths", ",".join(map(repr, options.lengths)), "--rounds", str(options.rounds)]
        arguments += ["--soak", str(options.soak), *(["--profile"] if options.profile else [])]
        how = {
            "--accuracy-level": options.accuracy_level,
            "--target": options.target,
            "--audio-context": options.audio_context,
        }
        arguments += words(how)
        answers = run_on(boards, arguments, messages)
    return results_of(answers, Benchmark, {"audio": [stretch for _, stretch in audio], "command": command}, output)


def lengths_as_corpus(audio: Sequence[tuple[Utterance, Stretch]], folder: Path) -> Files:
    """A corpus in which `stretches` finds, for each length, the very clip of that length.

    Without their durations, which are rounded: the samples decide.
    """
    return write_corpus([replace(utterance, seconds=None) for utterance, _ in audio], folder)
