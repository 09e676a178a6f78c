"""The whole export: checkpoint -> calibrate -> quantize -> export -> QDQ graph -> verify -> bundle."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_asr_deploy.bundle.manifest import CARD, CalibrationRecord, Graphs, Manifest, Model
from edge_asr_deploy.bundle.side_files import SIDE_FILES
from edge_asr_deploy.bundle.vocabulary import write_vocabulary
from edge_asr_deploy.bundle.writer import BundleWriter
from edge_asr_deploy.checkpoints import Checkpoint
from edge_asr_deploy.corpora.defaults import calibration_corpus
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.export_options import ExportOptions
from edge_asr_deploy.families import family
from edge_asr_deploy.harness.reporting.card import model_card
from edge_asr_deploy.progress import Progress, shown, staged
from edge_asr_deploy.recipe.document import Recipe
from edge_asr_deploy.recipe.rules import check_skips
from edge_asr_deploy.selection import PACKAGES, chosen
from edge_asr_deploy.stages import (
    calibration_samples,
    compute_activations,
    compute_weights,
    compute_window_end,
    distill_weights,
    load_model,
)

if TYPE_CHECKING:
    from rich.console import Console

    # These need torch or onnx, which are loaded only when there is something to compute.
    from edge_asr_deploy.graph.deployment import Deployment
    from edge_asr_deploy.ptq.calibration.samples import Sample
    from edge_asr_deploy.quantized.model import WindowEnd
    from edge_asr_deploy.quantized.weight import QuantizedWeight

PROOF_CLIPS = 2


@dataclass(frozen=True)
class Speech:
    """The calibration speech, and the sentence that says which it is."""

    utterances: list[Utterance]
    description: str


@dataclass(frozen=True)
class Job:
    """What is exported: by which recipe, from which checkpoint, calibrated on which speech, under which name.

    `shows_texts`: the bundle tells what its proof clips say. The speech may be private, and bundles are published.
    """

    name: str
    checkpoint: Checkpoint
    recipe: Recipe
    speech: Speech
    shows_texts: bool = False


@dataclass(frozen=True)
class Made:
    """A quantized Transformers model, its weights as integer codes, and the calibration samples that prove it.

    `end` is that of its short windows, where one was learned.
    """

    model: Any
    weights: Sequence[QuantizedWeight]
    samples: Sequence[Sample]
    end: WindowEnd | None = None


class TooCoarse(UserError):
    """The exported model no longer transcribes: it says nothing, or repeats itself."""


def export(options: ExportOptions, console: Console | None = None) -> tuple[Path, Manifest]:
    """Make a bundle; returns its folder and manifest. UserError for bad input, and then nothing is left behind.

    `console` is where progress and notes go; without one nothing is printed.
    """
    from edge_asr_deploy.layouts.layouts import beside, named, report, write

    names = named(options.layout)
    checkpoint, recipe = chosen(options)
    output = options.output or Path("exported") / f"{checkpoint.name}-{recipe.name.removeprefix(recipe.family + '-')}"
    writer = BundleWriter(output, options.overwrite)
    writers = {name: BundleWriter(beside(output, name), options.overwrite) for name in names}
    speech = calibration_speech(recipe)
    if console:
        note = [f"Note: {checkpoint.grid_note}"] if checkpoint.grid_note else []
        console.print(f"Model: {checkpoint.name}, from {checkpoint.origin}.", *note, speech.description, sep="\n")
    job = Job(output.name, checkpoint, recipe, speech, options.show_transcripts)
    with writer, shown(console) as progress:
        made = make(job, options.language, progress)
        manifest = writer.commit(write_files(writer.folder, job, made, progress))
        proved = speech.utterances[:PROOF_CLIPS]
        # After the bundle: it is finished and stays, whatever becomes of its layouts.
        layouts = {name: write(output, manifest, name, one, proved, progress) for name, one in writers.items()}
    if console:
        for name, written in layouts.items():
            console.print(report(beside(output, name), written), markup=False)
    return output, manifest


def make(job: Job, language: str | None, progress: Progress) -> Made:
    """Load the float model, transcribe the calibration speech, quantize: every stage that computes in PyTorch."""
    recipe = job.recipe
    model = load_model(job.checkpoint)
    structure = family(recipe.family).structure(model.config)
    recipe.require_matches(structure.components())
    recipe.require_kernels(structure.components())
    check_skips(recipe, structure)
    transcribing = staged(progress, "transcribing calibration speech")
    samples = calibration_samples(model, job.checkpoint, recipe, job.speech.utterances, language, transcribing)
    utterances, ending = job.speech.utterances, staged(progress, "learning the window's end")
    end = compute_window_end(model, job.checkpoint, recipe, utterances, language, ending)
    weights = compute_weights(model, recipe, samples, staged(progress, "quantizing"), frees=True)
    learning = staged(progress, "learning from the float model")
    weights = distill_weights(model, job.checkpoint, recipe, weights, utterances, language, learning)
    weights = compute_activations(model, recipe, weights, samples, staged(progress, "measuring activations"))
    return Made(model, weights, samples, end)


def write_files(folder: Path, job: Job, made: Made, progress: Progress, refuses_coarse: bool = True) -> Manifest:
    """Export the quantized model into `folder` and prove it there; returns the manifest, still without hashes.

    The proof needs only the first `PROOF_CLIPS` of the samples; without any the export is not proved on speech. With
    `refuses_coarse` a model that no longer transcribes is a `TooCoarse`; experiments want to know its word error rate.
    """
    from edge_asr_deploy.graph.deployment import deploy
    from edge_asr_deploy.ptq.forms import quantized_models
    from edge_asr_deploy.ptq.needs import needs_samples

    checkpoint, recipe, exporting = job.checkpoint, job.recipe, staged(progress, "exporting")
    components = family(recipe.family).structure(made.model.config).components()
    models = quantized_models(made.weights, recipe, components, made.end)
    deployments = deploy(made.model, models, folder, exporting)
    for side in SIDE_FILES:
        if (checkpoint.folder / side).exists():
            shutil.copyfile(checkpoint.folder / side, folder / side)
    write_vocabulary(folder)
    metrics: dict[str, Any] = {"operators": {}}
    for number, deployment in enumerate(deployments):
        where = "" if len(deployments) == 1 else f" for {', '.join(deployment.targets)}"
        operators, proved = _prove(folder, job, made, deployment, staged(progress, f"verifying{where}"), refuses_coarse)
        metrics["operators"] |= operators
        if number == 0:
            metrics |= proved
        elif proved:
            metrics.setdefault("targets", {}).update(dict.fromkeys(deployment.targets, proved))
    manifest = Manifest(
        name=job.name,
        family=recipe.family,
        model=Model(
            name=checkpoint.name, origin=checkpoint.origin, sha256=checkpoint.sha256, grid_note=checkpoint.grid_note
        ),
        recipe=recipe.model_dump(mode="json"),
        versions=package_versions(),
        calibration=_record(recipe, job.speech) if needs_samples(recipe) else None,
        layers=list(deployments[0].layers),
        targets={name: one.graphs for name in recipe.target for one in deployments if name in one.targets},
        metrics=metrics,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    (folder / CARD).write_text(model_card(manifest, folder), encoding="utf-8")
    return manifest


def _prove(
    folder: Path, job: Job, made: Made, deployment: Deployment, progress: Progress, refuses_coarse: bool
) -> tuple[dict[str, dict[str, int]], dict[str, Any]]:
    """Prove the graphs of one deployment: their operators by file, and what the proof on samples found, if any."""
    from edge_asr_deploy.proof.verify import check_agreement, check_files, check_operators, measure_agreement

    progress("files and operators")
    check_files(folder, deployment.graphs)
    counts = check_operators(folder, deployment.layers, deployment.graphs, deployment.quantized.attention)
    operators = {file: dict(count) for file, count in counts.items()}
    if not made.samples:
        return operators, {}
    progress("agreement with PyTorch")
    samples = made.samples[:PROOF_CLIPS]
    agreement = measure_agreement(made.model, folder, samples, deployment.quantized, deployment.graphs)
    check_agreement(agreement)
    progress("real speech")
    utterances = job.speech.utterances[:PROOF_CLIPS]
    spoken = _check_speech(folder, job.recipe.family, utterances, deployment.graphs, refuses_coarse)
    proved = {
        "agreement_with_pytorch": asdict(agreement),
        "heard": {id: len(text.split()) for id, text in spoken.items()},
    }
    return operators, proved | ({"spoken": spoken} if job.shows_texts else {})


def package_versions() -> dict[str, str]:
    """The versions of what an export depends on."""
    return {package: metadata.version(package) for package in PACKAGES}


def calibration_speech(recipe: Recipe) -> Speech:
    """Calibration speech; where none is needed, the two clips that prove the export, if there are any."""
    from edge_asr_deploy.corpora.defaults import evaluation_corpus
    from edge_asr_deploy.corpora.overlap import refuse_overlap
    from edge_asr_deploy.ptq.needs import needs_samples

    wanted = recipe.calibration
    if needs_samples(recipe):
        utterances, description = calibration_corpus(wanted.corpus, wanted.number, wanted.seed, wanted.seconds)
        try:
            judged = evaluation_corpus()[0]
        except UserError:
            # Nothing to judge on here, so nothing to overlap with; `evaluate` asks again with what it is given.
            judged = []
        refuse_overlap(utterances, judged)
        return Speech(utterances, description)
    try:
        utterances, _ = calibration_corpus(wanted.corpus, PROOF_CLIPS, wanted.seed, wanted.seconds)
    except UserError:
        return Speech([], "No speech at hand: the export is not proved on real clips.")
    return Speech(utterances, "Nothing to calibrate.")


def _record(recipe: Recipe, speech: Speech) -> CalibrationRecord:
    prints = [utterance.fingerprint() for utterance in speech.utterances]
    return CalibrationRecord(
        description=speech.description,
        number=len(prints),
        seed=recipe.calibration.seed,
        fingerprint=hashlib.sha256("".join(sorted(prints)).encode()).hexdigest(),
        utterance_fingerprints=prints,
    )


def _check_speech(
    folder: Path, name: str, utterances: Sequence[Utterance], graphs: Graphs, refuses_coarse: bool = True
) -> dict[str, str]:
    """The texts of real clips, which must be neither empty nor stuck in a loop unless that may be."""
    from edge_asr_deploy.runtime.decoding.loops import is_runaway
    from edge_asr_deploy.runtime.transcriber import Transcriber

    transcriber = Transcriber.open(folder, verify=False, vad=False, family=name, graphs=graphs)
    texts = {}
    for utterance in utterances:
        transcript = transcriber.transcribe(utterance.samples())
        text = transcript.text
        if refuses_coarse and (not text or transcript.loops or is_runaway(text)):
            raise TooCoarse("export", utterance.id, f"became {text[:60]!r}: this recipe is too coarse; use more bits")
        texts[utterance.id] = text
    return texts
