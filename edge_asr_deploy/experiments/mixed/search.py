"""The joint search: method options and the weight of each component's sensitivities, by Optuna, under one budget.

A trial quantizes the whole model by its options and judges it by the divergence of its logits on clips that it was not
calibrated on. Trials are kept in Optuna's journal: a search that was killed goes on with the next one.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from edge_asr_deploy.experiments.analysis.sensitivity import Probe, model_divergence
from edge_asr_deploy.experiments.analysis.subject import Subject
from edge_asr_deploy.experiments.mixed.problem import Bits, Problem, with_bits
from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.progress import Progress
from edge_asr_deploy.ptq.quantize import quantize
from edge_asr_deploy.recipe.document import Recipe
from edge_asr_deploy.recipe.methods import AwqOptions, GptqOptions, QepOptions
from edge_asr_deploy.recipe.weights import WeightSpec

STEPS: dict[str, tuple[Any, ...]] = {
    "none": (),
    "awq": (AwqOptions(),),
    "qep": (QepOptions(),),
    "awq+qep": (AwqOptions(), QepOptions()),
}
# Sensitivities of a component count up to this many times more or less: how far rounding to nearest may mislead.
EMPHASIS = 4.0


@dataclass(frozen=True)
class Found:
    """The best trial: its recipe and widths, its divergence on the judging clips, and how many trials there were."""

    recipe: Recipe
    bits: Bits
    divergence: float
    trials: int


def search(
    subject: Subject,
    problem: Problem,
    budget: int,
    trials: int,
    journal: Path,
    name: str,
    progress: Progress,
) -> Found:
    """Run trials until there are `trials` complete ones under `name` in `journal`. At least two clips are needed.

    Half of the subject's clips calibrates, the other half judges. The first trial is the recipe as it is.
    """
    half = len(subject.samples) // 2
    calibrating, scoring = subject.samples[:half], subject.samples[half:]
    probe = Probe(subject.model, subject.structure, scoring, subject.prompt, subject.family.fixed_window)
    components = subject.structure.components()

    def objective(trial: optuna.Trial) -> float:
        recipe, bits = _proposal(trial, subject.recipe, components, problem, budget)
        copy = deepcopy(subject.model)
        quantize(copy, subject.family, with_bits(recipe, components, bits, recipe.name), calibrating)
        result = model_divergence(copy, probe)
        del copy
        gc.collect()
        return result

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    journal.parent.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
    # A run that goes on must not draw again what the one before it drew.
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))
    if not study.trials:
        study.enqueue_trial({"options": "as given", **{f"emphasis {c}": 0.0 for c in COMPONENTS}})
    while (done := _count(study)) < trials:
        progress("trial", done, trials)
        study.optimize(objective, n_trials=1)
    progress("trial", _count(study), trials)
    recipe, bits = _proposal(study.best_trial, subject.recipe, components, problem, budget)
    return Found(recipe, bits, study.best_value, _count(study))


def _proposal(
    trial: optuna.Trial | optuna.trial.FrozenTrial,
    base: Recipe,
    components: Mapping[str, str],
    problem: Problem,
    budget: int,
) -> tuple[Recipe, Bits]:
    """The recipe and widths of a trial: drawn from a new one, read back from a finished one."""
    factors = {c: EMPHASIS ** trial.suggest_float(f"emphasis {c}", -1.0, 1.0) for c in COMPONENTS}
    weighed = {
        path: {bits: cost * factors[components[path]] for bits, cost in widths.items()}
        for path, widths in problem.costs.items()
    }
    bits = Problem(weighed, problem.sizes).solve(budget)
    if trial.suggest_categorical("options", ["as given", "gptq"]) == "as given":
        return base, bits
    changes: dict[str, WeightSpec] = {}
    steps = STEPS[trial.suggest_categorical("steps", list(STEPS))]
    clip = trial.suggest_categorical("clip_steps", [0, 10, 20])
    for component in COMPONENTS:
        spec = base.component(component)
        if spec.is_integer:
            side = "embedding" if component == "embedding" else "blocks"
            damping = trial.suggest_float(f"damping {side}", 1e-3, 2.0, log=True)
            quantizer = GptqOptions(damping=damping, clip_steps=clip)
            update = {"quantizer": quantizer, "steps": () if component == "embedding" else steps}
            changes[component] = spec.model_copy(update=update)
    return base.with_weights(changes), bits


def _count(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)))
