"""One cell, stage by stage: weights, ranges of activations, bundle, evaluation. Stored stages are not run again."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from edge_asr_deploy.bundle.manifest import Layer
from edge_asr_deploy.bundle.verification import verify
from edge_asr_deploy.bundle.writer import BundleWriter
from edge_asr_deploy.checkpoints import Checkpoint, resolve
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.experiments.sweep.grid import Cell
from edge_asr_deploy.experiments.sweep.keys import Keys, split_table
from edge_asr_deploy.experiments.sweep.store import Store, read_sealed, write_sealed
from edge_asr_deploy.harness.evaluation.evaluate import evaluate
from edge_asr_deploy.harness.evaluation.options import EvaluateOptions
from edge_asr_deploy.harness.evaluation.result import Result
from edge_asr_deploy.harness.evaluation.speech import load_speech, select
from edge_asr_deploy.harness.evaluation.worker import peak_rss
from edge_asr_deploy.harness.inspection.cost import GraphCost, cost_of
from edge_asr_deploy.pipeline import PROOF_CLIPS, Made, Speech, calibration_speech, write_files
from edge_asr_deploy.pipeline import Job as ExportJob
from edge_asr_deploy.progress import Progress, silent, staged
from edge_asr_deploy.recipe.document import Recipe
from edge_asr_deploy.selection import check_versions
from edge_asr_deploy.stages import (
    calibration_samples,
    compute_activations,
    compute_weights,
    compute_window_end,
    distill_weights,
    load_model,
)

if TYPE_CHECKING:
    # These modules import torch, which a finished cell does not need.
    from edge_asr_deploy.experiments.sweep.weights import Stored
    from edge_asr_deploy.ptq.calibration.samples import Sample
    from edge_asr_deploy.quantized.model import WindowEnd
    from edge_asr_deploy.quantized.weight import QuantizedWeight

WEIGHTS, RANGES, BUNDLES, RESULTS = "weights", "ranges", "bundles", "results"
SECONDS_OF_AUDIO = 30.0


@dataclass(frozen=True)
class Job:
    """A cell and its keys: all that a process on any machine needs to know."""

    cell: Cell
    keys: Keys


class Finding(BaseModel):
    """The measurements of a finished cell. `costs`: encoder on 30 s of audio, the decoder's first call, one later call.

    `peak_memory`: bytes, of the process that calibrated, quantized and exported it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    result: Result
    costs: list[GraphCost]
    layers: list[Layer]
    versions: dict[str, str]
    quantize_seconds: float | None
    peak_memory: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How a cell ended: with a finding, or with an error in one line."""

    finding: Finding | None = None
    error: str | None = None


@dataclass(frozen=True)
class _Quantized:
    """A model that computes with its quantized weights; `samples` are enough to prove an export with."""

    model: Any
    weights: list[QuantizedWeight]
    samples: list[Sample]
    seconds: float
    end: WindowEnd | None


def attempt(job: Job, store: Store, progress: Progress) -> Outcome:
    """Run a cell; any exception becomes its error."""
    try:
        return Outcome(finding=run(job, store, progress))
    except UserError as error:
        return Outcome(error=str(error))
    except Exception as error:  # A cell is an experiment: none of them may end the others.
        first = str(error).strip().splitlines()
        return Outcome(error=f"{type(error).__name__}: {first[0] if first else 'no message'}"[:500])


def find(store: Store, key: str) -> Finding | None:
    """The finding under that key, if it was made before; an unreadable one counts as none."""
    text = read_sealed(store.path(RESULTS, key))
    with contextlib.suppress(ValidationError):
        return None if text is None else Finding.model_validate_json(text)
    return None


def keep(store: Store, key: str, finding: Finding) -> None:
    """Write a finding into the store."""
    write_sealed(store.path(RESULTS, key), finding.model_dump_json())


def run(job: Job, store: Store, progress: Progress) -> Finding:
    """The cell's finding: from the store, or made now and stored. UserError where an export or evaluation says so."""
    with store.alone(RESULTS, job.keys.result):
        if (earlier := find(store, job.keys.result)) is not None:
            return earlier
        bundle = _bundle(job, store, progress)
        progress("evaluating")
        finding = _evaluate(job, bundle, store)
        keep(store, job.keys.result, finding)
    return finding


def _evaluate(job: Job, bundle: Path, store: Store) -> Finding:
    wanted = job.cell.evaluation
    options = EvaluateOptions(
        threads=wanted.threads, accuracy_level=wanted.accuracy_level, language=wanted.language, speed=False
    )
    utterances, speech = load_speech(wanted.data)
    chosen = select(utterances, wanted.limit, options.seed)
    # No progress of the evaluation: the sweep shows its own.
    result = evaluate(bundle, None, chosen, speech, options, silent)
    manifest = verify(bundle)
    seconds, memory = (manifest.metrics.get(name) for name in ("quantize_seconds", "peak_memory"))
    return Finding(
        result=result,
        costs=cost_of(bundle, SECONDS_OF_AUDIO),
        layers=manifest.layers,
        versions=manifest.versions,
        quantize_seconds=seconds,
        peak_memory=None if memory is None else int(memory),
    )


def _bundle(job: Job, store: Store, progress: Progress) -> Path:
    """The folder of the cell's bundle: as it lies in the store when it is whole, else made now."""
    with store.alone(BUNDLES, job.keys.bundle) as path:
        if path.is_dir():
            with contextlib.suppress(UserError):
                verify(path)
                return path
            shutil.rmtree(path)
        check_versions()
        checkpoint = resolve(job.cell.model)
        recipe = job.cell.recipe
        if recipe.family != checkpoint.family:
            raise UserError(f"sweep cell {job.cell.name}", f"family {recipe.family}", f"this is {checkpoint.family}")
        speech = calibration_speech(recipe)
        quantized = _quantized(job, checkpoint, speech, store, progress)
        with BundleWriter(path) as writer:
            # A model too coarse to transcribe is a result of the sweep as well.
            exported = ExportJob(recipe.name, checkpoint, recipe, speech)
            made = Made(quantized.model, quantized.weights, quantized.samples, quantized.end)
            manifest = write_files(writer.folder, exported, made, progress, refuses_coarse=False)
            metrics = {**manifest.metrics, "quantize_seconds": quantized.seconds, "peak_memory": peak_rss()}
            writer.commit(manifest.model_copy(update={"metrics": metrics}))
        return path


def _quantized(job: Job, checkpoint: Checkpoint, speech: Speech, store: Store, progress: Progress) -> _Quantized:
    from edge_asr_deploy.experiments.sweep.weights import read, read_ranges, save_ranges

    recipe, language = job.cell.recipe, job.cell.evaluation.language

    blocks, table = split_table(recipe)
    ranges = None if job.keys.ranges is None else read_ranges(store.path(RANGES, job.keys.ranges))
    model = load_model(checkpoint)
    ending = staged(progress, "learning the window's end")
    end = compute_window_end(model, checkpoint, recipe, speech.utterances, language, ending)
    with store.alone(WEIGHTS, job.keys.weights) as path:
        stored = read(path)
        # Stored weights need no calibration any more, only the clips that prove the export.
        is_stored = stored is not None and (ranges is not None or job.keys.ranges is None)
        utterances = speech.utterances[:PROOF_CLIPS] if is_stored else speech.utterances
        samples = calibration_samples(model, checkpoint, recipe, utterances, language, staged(progress, "calibrating"))

        def learn(weights: list[QuantizedWeight]) -> list[QuantizedWeight]:
            stage = staged(progress, "learning from the float model")
            return distill_weights(model, checkpoint, blocks, weights, speech.utterances, language, stage)

        weights, seconds = _weights(store, path, stored, model, blocks, samples, progress, learn)
    if table is not None and job.keys.table is not None:
        with store.alone(WEIGHTS, job.keys.table) as path:
            more, extra = _weights(store, path, read(path), model, table, [], progress, list)
        weights, seconds = weights + more, seconds + extra
    if ranges is not None:
        weights = [dataclasses.replace(weight, inputs=ranges.get(weight.name)) for weight in weights]
    else:
        progress("measuring activations")
        weights = compute_activations(model, recipe, weights, samples, silent)
        if job.keys.ranges is not None:
            with store.alone(RANGES, job.keys.ranges) as path:
                store.make_folder(RANGES, path.name, lambda folder: save_ranges(folder, weights))
    return _Quantized(model, weights, samples, seconds, end)


def _weights(
    store: Store,
    path: Path,
    stored: Stored | None,
    model: Any,
    recipe: Recipe,
    samples: list[Sample],
    progress: Progress,
    learn: Callable[[list[QuantizedWeight]], list[QuantizedWeight]],
) -> tuple[list[QuantizedWeight], float]:
    """The weights stage: `model` becomes the quantized one, from what is stored or by computing it, and then learns."""
    from edge_asr_deploy.experiments.sweep.weights import is_storable, save, snapshot

    if stored is not None:
        stored.restore(model)
        return stored.weights, stored.seconds

    progress("quantizing")
    before = snapshot(model)
    started = time.perf_counter()
    weights = learn(compute_weights(model, recipe, samples, staged(progress, "quantizing")))
    seconds = time.perf_counter() - started
    if is_storable(model, before):
        shutil.rmtree(path, ignore_errors=True)
        store.make_folder(WEIGHTS, path.name, lambda folder: save(folder, model, weights, before, seconds))
    return weights, seconds


def to_json(job: Job) -> str:
    """A job as one line of JSON."""
    text: bytes = TypeAdapter(Job).dump_json(job)
    return text.decode()


def from_json(text: str) -> Job:
    """The job that `to_json` wrote."""
    job: Job = TypeAdapter(Job).validate_json(text)
    return job


def outcome_to_json(outcome: Outcome) -> str:
    """An outcome as one line of JSON."""
    finding = None if outcome.finding is None else outcome.finding.model_dump(mode="json")
    text: bytes = TypeAdapter(dict[str, Any]).dump_json({"finding": finding, "error": outcome.error})
    return text.decode()


def outcome_from_json(text: str) -> Outcome:
    """The outcome that `outcome_to_json` wrote."""
    outcome: Outcome = TypeAdapter(Outcome).validate_json(text)
    return outcome
