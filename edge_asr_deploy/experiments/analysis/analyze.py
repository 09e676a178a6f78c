"""`edge-deploy analyze`: statistics of every matrix and of its inputs, and what rounding it alone costs."""

from __future__ import annotations

import json
from dataclasses import dataclass

from rich.console import Console

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.experiments.analysis.plots import plot_sensitivities, plot_statistics, require_matplotlib
from edge_asr_deploy.experiments.analysis.statistics import MatrixStatistics, Spread
from edge_asr_deploy.experiments.analysis.subject import Sensitivities, load_subject
from edge_asr_deploy.experiments.options import AnalyzeOptions
from edge_asr_deploy.files import require_writable, write_atomically
from edge_asr_deploy.harness.layout import FittedTable, plain
from edge_asr_deploy.progress import shown, staged


@dataclass(frozen=True)
class Analysis:
    """What was found. `sensitivity`: KL of the logits in nats per token by path and width; `fisher` the proxy's.

    `words`: word errors per word of the float model's own transcripts, of the narrow widths.
    """

    model: str
    speech: str
    statistics: list[MatrixStatistics]
    sensitivity: Sensitivities
    fisher: Sensitivities | None
    words: Sensitivities | None

    def as_json(self) -> str:
        """For machines."""
        document = {
            "model": self.model,
            "speech": self.speech,
            "statistics": [one.as_json() for one in self.statistics],
            "sensitivity": self.sensitivity,
            "fisher": self.fisher,
            "words": self.words,
        }
        return json.dumps(document, indent=1)


def analyze(options: AnalyzeOptions, console: Console) -> Analysis:
    """Look at a model on calibration speech; writes a folder of JSON and plots where an output is named.

    Sensitivities are kept in the cache one by one: a run that was killed goes on. UserError as from `export`.
    """
    choices, output = options.choices, options.output
    wrong = [bits for bits in choices if bits not in range(2, 9)]
    if wrong:
        raise UserError("--bits-choices", wrong[0], "choose from 2 to 8, separated by commas")
    if output is not None:
        require_matplotlib()
        require_writable("--output", output / "analysis.json", makes_folders=True)
    with shown(console) as progress:
        subject = load_subject(options.export, options.clips, progress)
        console.print(f"Model: {subject.checkpoint.name}, from {subject.checkpoint.origin}.", subject.description)
        analysis = Analysis(
            model=subject.checkpoint.name,
            speech=subject.description,
            statistics=subject.statistics(staged(progress, "statistics")),
            sensitivity=subject.sensitivities(choices, staged(progress, "sensitivities")),
            fisher=subject.fisher(choices, staged(progress, "gradients")) if options.fisher else None,
            words=subject.word_changes(choices, staged(progress, "words")) if options.words else None,
        )
    if output is not None:
        write_atomically(output / "analysis.json", analysis.as_json() + "\n")
        plot_statistics(analysis.statistics, output / "statistics.png")
        if analysis.sensitivity:
            plot_sensitivities(analysis.sensitivity, output / "sensitivity.png")
    return analysis


def tables(analysis: Analysis) -> list[FittedTable]:
    """Two tables for people: statistics, and sensitivities with the most sensitive matrix first."""
    statistics = FittedTable(title=f"{analysis.model}: values", caption=analysis.speech)
    for column in ("matrix", "weights", "kurtosis", "outliers", "inputs", "kurtosis", "outliers"):
        statistics.head(column, right=column != "matrix")
    for one in analysis.statistics:
        statistics.row(one.path.removeprefix("model."), *_cells(one.weight), *_cells(one.inputs))
    sensitivity = FittedTable(title=f"{analysis.model}: KL of the logits, nats per token, each matrix alone rounded")
    if not analysis.sensitivity:
        return [statistics]
    widths = sorted(next(iter(analysis.sensitivity.values())))
    sensitivity.head("matrix")
    for bits in widths:
        sensitivity.head(f"{bits} bits", right=True)
    narrow = [bits for bits in widths if analysis.words and bits in next(iter(analysis.words.values()))]
    for bits in narrow:
        sensitivity.head(f"WER %, {bits} bits", right=True)
    for path, costs in sorted(analysis.sensitivity.items(), key=lambda item: -item[1][widths[0]]):
        changed = [f"{100 * analysis.words[path][bits]:.1f}" for bits in narrow] if analysis.words else []
        sensitivity.row(path.removeprefix("model."), *(f"{plain(costs[bits], 2)}" for bits in widths), *changed)
    return [statistics, sensitivity]


def _cells(spread: Spread | None) -> tuple[str, str, str]:
    if spread is None:
        return "", "", ""
    return f"{plain(spread.low, 2)} to {plain(spread.high, 2)}", f"{spread.kurtosis:.1f}", str(spread.outliers)
