"""What a user asks of `analyze`, `fit` and `sweep`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from edge_asr_deploy.export_options import ExportOptions
from edge_asr_deploy.options import Option

MODEL = Option("Hub id, folder, or short name, as for export. Default: whisper-tiny.en.")
CALIBRATION = Option("Speech to measure on, as for export.")
SEED = Option("Seed that decides which clips are drawn.")
LANGUAGE = Option("Language of the speech, for multilingual models.")


class Rule(StrEnum):
    """The rule that chooses bits."""

    KNAPSACK = "knapsack"
    MYQASR = "myqasr"


class Proxy(StrEnum):
    """The quantity that estimates the damage done by rounding."""

    KL = "kl"
    FISHER = "fisher"


@dataclass(frozen=True)
class AnalyzeOptions:
    """What to measure of a model, on `clips` of calibration speech; `output` is a folder."""

    model: Annotated[str | None, MODEL] = None
    bits: Annotated[int | None, Option("Use the group sizes of this shipped recipe. Default: 4.")] = None
    recipe: Annotated[Path | None, Option("Use the group sizes of this recipe file instead of --bits.")] = None
    bits_choices: Annotated[tuple[int, ...], Option("Widths to measure, separated by commas.", commas=True)] = (
        2,
        3,
        4,
        8,
    )
    clips: Annotated[int, Option("Number of calibration clips to measure on.", least=1)] = 8
    fisher: Annotated[bool, Option("Also compute the Fisher proxy from gradients.")] = False
    words: Annotated[bool, Option("Also measure a word error rate against the float model's own text (slow).")] = False
    calibration: Annotated[str | None, CALIBRATION] = None
    seed: Annotated[int | None, SEED] = None
    language: Annotated[str, LANGUAGE] = "en"
    output: Annotated[Path | None, Option("Write analysis.json and plots to this folder.")] = None

    @property
    def choices(self) -> tuple[int, ...]:
        """The widths, narrowest first, each once."""
        return tuple(sorted(set(self.bits_choices)))

    @property
    def export(self) -> ExportOptions:
        """Which model and recipe that is."""
        return ExportOptions(
            model=self.model,
            bits=self.bits,
            recipe=self.recipe,
            calibration=self.calibration,
            seed=self.seed,
            language=self.language,
        )


@dataclass(frozen=True)
class FitOptions:
    """What is wanted: one of `max_mb` (all `*.onnx`, megabytes of 10^6) and `max_wer_rise` (absolute points).

    `clips` of calibration speech measure; `held_out` others judge a rise in WER where `data` (manifests with
    references) does not.
    """

    model: Annotated[str | None, MODEL] = None
    max_mb: Annotated[float | None, Option("Largest total size of the *.onnx files, in MB (10^6 bytes).")] = None
    max_wer_rise: Annotated[
        float | None, Option("Find the smallest bundle whose WER, on onnxruntime, rises by at most this many points.")
    ] = None
    bits: Annotated[int | None, Option("Shipped recipe to start from. Default: 4.")] = None
    recipe: Annotated[Path | None, Option("Recipe file to start from, instead of --bits.")] = None
    target: Annotated[str | None, Option("Target of the recipe.")] = None
    bits_choices: Annotated[tuple[int, ...], Option("Widths to choose from.", commas=True)] = (2, 3, 4, 5, 6, 8)
    trials: Annotated[int, Option("Number of trials of the joint search over method options (Optuna).", least=0)] = 0
    rule: Annotated[Rule, Option("`myqasr` is a baseline: it takes bits from layers with small outputs first.")] = (
        Rule.KNAPSACK
    )
    proxy: Annotated[Proxy, Option("`kl` is the measured divergence, `fisher` its estimate from gradients.")] = Proxy.KL
    clips: Annotated[int, Option("Number of calibration clips that sensitivities are measured on.", least=1)] = 8
    held_out: Annotated[int, Option("Number of further calibration clips to measure --max-wer-rise on.", least=1)] = 50
    data: Annotated[
        tuple[Path, ...], Option("JSONL manifest with references to measure --max-wer-rise on instead.")
    ] = ()
    calibration: Annotated[str | None, CALIBRATION] = None
    seed: Annotated[int | None, SEED] = None
    language: Annotated[str, LANGUAGE] = "en"
    overwrite: Annotated[bool, Option("Replace an existing recipe file.")] = False

    @property
    def choices(self) -> tuple[int, ...]:
        """The widths, narrowest first, each once."""
        return tuple(sorted(set(self.bits_choices)))

    @property
    def export(self) -> ExportOptions:
        """The model and the recipe to start from."""
        return ExportOptions(
            model=self.model,
            bits=self.bits,
            recipe=self.recipe,
            overwrite=self.overwrite,
            calibration=self.calibration,
            seed=self.seed,
            language=self.language,
        )


@dataclass(frozen=True)
class SweepOptions:
    """How to run a sweep; `only` are patterns of cells' names."""

    output: Annotated[Path | None, Option("Folder for the results. Default: docs/results/NAME.")] = None
    jobs: Annotated[int, Option("Number of cells that run at once, each in a process of its own.", least=1)] = 1
    ray: Annotated[
        str | None, Option("Run on this Ray cluster: host:port, ray://host:port or auto.", metavar="ADDRESS")
    ] = None
    only: Annotated[
        tuple[str, ...], Option("Run only cells whose name matches; may be repeated.", metavar="PATTERN")
    ] = ()
