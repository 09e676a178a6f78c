"""A float model with its calibration speech: what `analyze` and `fit` start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from edge_asr_deploy.cache import cache_root
from edge_asr_deploy.checkpoints import Checkpoint
from edge_asr_deploy.corpora.defaults import calibration_corpus
from edge_asr_deploy.experiments.analysis.fisher import fisher_sensitivities, squared_gradients
from edge_asr_deploy.experiments.analysis.measurements import Measurements
from edge_asr_deploy.experiments.analysis.sensitivity import Probe, digest, sensitivities
from edge_asr_deploy.experiments.analysis.statistics import MatrixStatistics, matrix_statistics
from edge_asr_deploy.experiments.analysis.words import word_changes
from edge_asr_deploy.export_options import ExportOptions
from edge_asr_deploy.families import Family, Structure, family
from edge_asr_deploy.progress import Progress, silent, staged
from edge_asr_deploy.ptq.calibration.samples import Sample
from edge_asr_deploy.ptq.stem import narrow_in_place
from edge_asr_deploy.recipe.document import Recipe
from edge_asr_deploy.recipe.weights import WeightSpec
from edge_asr_deploy.selection import chosen
from edge_asr_deploy.stages import calibration_samples, load_model

Sensitivities = dict[str, dict[int, float]]


@dataclass(frozen=True)
class Subject:
    """The model holds float weights, but for a stem and matrices that its recipe stores in float16 or int8.

    `prompt`: how many of each sample's tokens predict no text.
    """

    checkpoint: Checkpoint
    recipe: Recipe
    family: Family
    structure: Structure
    model: Any
    samples: list[Sample]
    prompt: int
    description: str

    @property
    def specs(self) -> dict[str, WeightSpec]:
        """The recipe's spec of every matrix that it makes integer codes of."""
        specs = self.recipe.specs(self.structure.components())
        return {path: spec for path, spec in specs.items() if spec.is_integer}

    @property
    def measurements(self) -> Measurements:
        """The stored measurements of this model on these samples."""
        key = (self.checkpoint.sha256, str(self.recipe.stem.bits), digest(self.samples), metadata.version("torch"))
        return Measurements(cache_root() / "analysis", *key)

    def probe(self) -> Probe:
        """The float model's answers, and its activations on the way."""
        return Probe(self.model, self.structure, self.samples, self.prompt, cuts=self.family.fixed_window)

    def sensitivities(self, choices: Sequence[int], progress: Progress = silent) -> Sensitivities:
        """KL by path and width, stored ones from disk."""
        return sensitivities(self.probe(), self.specs, choices, self.measurements, progress)

    def fisher(self, choices: Sequence[int], progress: Progress = silent) -> Sensitivities:
        """The Fisher proxy by path and width."""
        if not self.specs:
            return {}
        squares = squared_gradients(self.model, list(self.specs), self.samples, self.prompt, progress)
        return fisher_sensitivities(self.model, self.specs, choices, squares)

    def word_changes(self, choices: Sequence[int], progress: Progress = silent) -> Sensitivities:
        """Word errors per word of the float model's transcripts, by path and width, stored ones from disk."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.checkpoint.folder)
        # `self.prompt` counts the tokens that predict no text: all tokens of the prompt but its last.
        prompt = self.prompt + 1
        return word_changes(
            self.model, tokenizer, self.specs, self.samples, prompt, choices, self.measurements, progress
        )

    def statistics(self, progress: Progress = silent) -> list[MatrixStatistics]:
        """Statistics of every matrix and of its inputs."""
        return matrix_statistics(self.model, self.structure.components(), self.samples, progress)


def load_subject(options: ExportOptions, clips: int, progress: Progress) -> Subject:
    """The model and recipe of a request, and `clips` of its calibration speech with the float model's transcripts.

    UserError as from `export`, before the weights are read where possible.
    """
    checkpoint, recipe = chosen(options)
    wanted, kind = recipe.calibration, family(recipe.family)
    utterances, description = calibration_corpus(wanted.corpus, clips, wanted.seed, wanted.seconds)
    model = load_model(checkpoint)
    structure = kind.structure(model.config)
    recipe.require_matches(structure.components())
    transcribing = staged(progress, "transcribing calibration speech")
    samples = calibration_samples(model, checkpoint, recipe, utterances, options.language, transcribing)
    narrow_in_place(model, structure.components(), recipe)
    prompt = len(kind.prompt(model.generation_config, options.language, None)) - 1
    description = description.replace("Calibrated on", "Measured on", 1)
    return Subject(checkpoint, recipe, kind, structure, model, samples, prompt, description)
