"""The whole export: checkpoint -> calibrate -> quantize -> export -> QDQ graph -> verify -> bundle."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress

from edge_asr_deploy.bundle.manifest import CARD, BundleWriter, CalibrationRecord, Graphs, Manifest, Model
from edge_asr_deploy.checkpoints import Checkpoint, resolve
from edge_asr_deploy.checkpoints.resolution import DEFAULT_MODEL
from edge_asr_deploy.corpora.defaults import calibration_corpus
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families import family
from edge_asr_deploy.harness.reporting.card import model_card
from edge_asr_deploy.progress import Ticker, progress_display
from edge_asr_deploy.recipe.document import Recipe, parse
from edge_asr_deploy.recipe.files import for_bits, load_document, override, stored_for
from edge_asr_deploy.runtime.targets import named
from edge_asr_deploy.stages import compute_activations, compute_weights, hear, load_model

if TYPE_CHECKING:
    # Both need torch, which is loaded only when there is something to compute.
    from edge_asr_deploy.ptq.calibration.samples import Sample
    from edge_asr_deploy.quantized.weight import QuantizedWeight

# Of these the tracer's graph, the rounding or the kernels depend on.
PACKAGES = ("torch", "transformers", "optimum", "optimum-onnx", "onnx", "onnx-ir", "onnxruntime", "numpy", "tokenizers")
# Transformers' files that a bundle carries beside the graphs.
SIDE_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "normalizer.json",
)
PROOF_CLIPS = 2


@dataclass(frozen=True)
class Request:
    """What the user asked for. `bits` picks a shipped recipe, `recipe` is a file; `settings` are `key.path=value`.

    `target` names devices, separated by commas; a shipped recipe is then stored so that their kernels take it.
    """

    model: str | None = None
    bits: int | None = None
    recipe: Path | None = None
    settings: Sequence[str] = ()
    target: str | None = None
    output: Path | None = None
    overwrite: bool = False
    calibration: str | None = None
    number: int | None = None
    seed: int | None = None
    language: str = "en"


@dataclass(frozen=True)
class Speech:
    """The calibration speech, and the sentence that says which it is."""

    utterances: list[Utterance]
    description: str


def export(request: Request, console: Console) -> tuple[Path, Manifest]:
    """Make a bundle; returns its folder and manifest. UserError for bad input, and then nothing is left behind."""
    checkpoint, recipe = chosen(request)
    destination = (
        request.output or Path("exported") / f"{checkpoint.name}-{recipe.name.removeprefix(recipe.family + '-')}"
    )
    writer = BundleWriter(destination, request.overwrite)
    console.print(f"Model: {checkpoint.name}, from {checkpoint.origin}.")
    if checkpoint.grid_note:
        console.print(f"Note: {checkpoint.grid_note}")
    speech = calibration_speech(recipe)
    console.print(speech.description)
    with writer, progress_display(console) as progress:
        manifest = writer.commit(
            _write(writer.folder, destination.name, checkpoint, recipe, speech, request.language, progress)
        )
    return destination, manifest


def chosen(request: Request) -> tuple[Checkpoint, Recipe]:
    """The checkpoint and the whole recipe that a request names; UserError for what does not exist or fit together."""
    check_versions()
    document = _document(request)
    checkpoint = resolve(request.model or document.get("model") or DEFAULT_MODEL)
    return checkpoint, _recipe(request, document, checkpoint)


def _write(
    folder: Path,
    name: str,
    checkpoint: Checkpoint,
    recipe: Recipe,
    speech: Speech,
    language: str,
    progress: Progress,
) -> Manifest:
    """Fill `folder` with everything but the manifest's hashes: one stage after the other."""
    from edge_asr_deploy.ptq.activations import check_skips

    model = load_model(checkpoint)
    structure = family(recipe.family).structure(model.config)
    recipe.require_matches(structure.components())
    recipe.require_kernels(structure.components())
    check_skips(recipe, structure)
    ticker = Ticker(progress, "transcribing calibration speech")
    samples = hear(model, checkpoint, recipe, speech.utterances, language, ticker.advance)
    weights = compute_weights(model, recipe, samples, Ticker(progress, "quantizing").advance)
    weights = compute_activations(model, recipe, weights, samples, Ticker(progress, "measuring activations").advance)
    say = Ticker(progress, "exporting").say
    return write_files(folder, name, checkpoint, recipe, speech, model, weights, samples, say)


def write_files(
    folder: Path,
    name: str,
    checkpoint: Checkpoint,
    recipe: Recipe,
    speech: Speech,
    model: Any,
    weights: Sequence[QuantizedWeight],
    samples: Sequence[Sample],
    say: Callable[[str], None],
    refuses_coarse: bool = True,
) -> Manifest:
    """Export the quantized model into `folder` and prove it there; returns the manifest, still without hashes.

    The proof needs only the first `PROOF_CLIPS` of `samples`; without any the export is not proved on speech. With
    `refuses_coarse` a model that no longer speaks sense is a UserError; experiments want to know its word error rate.
    """
    from edge_asr_deploy.graph.deployment import deploy
    from edge_asr_deploy.proof.verify import check_agreement, check_files, check_operators, measure_agreement
    from edge_asr_deploy.ptq.quantize import needs_samples

    deployments = deploy(model, recipe, weights, folder, say)
    for side in SIDE_FILES:
        if (checkpoint.folder / side).exists():
            shutil.copyfile(checkpoint.folder / side, folder / side)
    metrics: dict[str, Any] = {"operators": {}}
    for number, made in enumerate(deployments):
        where = "" if len(deployments) == 1 else f" for {', '.join(made.targets)}"
        say(f"verifying{where}: files and operators")
        check_files(folder, made.graphs)
        counts = check_operators(folder, made.layers, made.graphs, made.recipe)
        metrics["operators"] |= {file: dict(count) for file, count in counts.items()}
        if samples:
            say(f"verifying{where}: agreement with PyTorch")
            proof = samples[:PROOF_CLIPS]
            agreement = measure_agreement(
                model, folder, proof, made.weights, recipe.embedding.shortlist, made.graphs, made.recipe
            )
            check_agreement(agreement)
            say(f"verifying{where}: real speech")
            spoken = _check_speech(folder, recipe.family, speech.utterances[:PROOF_CLIPS], made.graphs, refuses_coarse)
            proved = {"agreement_with_pytorch": asdict(agreement), "spoken": spoken}
            if number == 0:
                metrics |= proved
            else:
                metrics.setdefault("targets", {}).update(dict.fromkeys(made.targets, proved))
    manifest = Manifest(
        name=name,
        family=recipe.family,
        model=Model(
            name=checkpoint.name, origin=checkpoint.origin, sha256=checkpoint.sha256, grid_note=checkpoint.grid_note
        ),
        recipe=recipe.model_dump(mode="json"),
        versions=package_versions(),
        calibration=_record(recipe, speech) if needs_samples(recipe) else None,
        layers=list(deployments[0].layers),
        targets={name: made.graphs for name in recipe.target for made in deployments if name in made.targets},
        metrics=metrics,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    (folder / CARD).write_text(model_card(manifest, folder), encoding="utf-8")
    return manifest


def package_versions() -> dict[str, str]:
    """The versions of what an export depends on."""
    return {package: metadata.version(package) for package in PACKAGES}


def check_versions() -> None:
    """The exporter runs on one tested set; say so at once where it is missing, instead of failing inside it."""
    remedy = 'install the tested set: pip install "edge-asr-deploy[export]"'
    for package in PACKAGES:
        try:
            found = metadata.version(package)
        except metadata.PackageNotFoundError:
            raise UserError("export needs", package, f"is not installed; {remedy}") from None
        if package == "transformers" and int(found.split(".")[0]) >= 5:
            raise UserError("transformers", found, f"Optimum's exporter needs a version below 4.58; {remedy}")


def _document(request: Request) -> dict[str, Any]:
    """The recipe file as written; empty where `--bits` chooses, which needs to know the family first."""
    if request.recipe is not None and request.bits is not None:
        raise UserError("--recipe", request.recipe, "give either --recipe or --bits, not both")
    return load_document(request.recipe) if request.recipe else {}


def _recipe(request: Request, document: dict[str, Any], checkpoint: Checkpoint) -> Recipe:
    if request.recipe is None:
        document = for_bits(checkpoint.family, 4 if request.bits is None else request.bits)
        if request.target is not None:
            document = stored_for(document, [named(name.strip()) for name in request.target.split(",")])
    elif request.target is not None:
        document = {**document, "target": request.target}
    changes = {"corpus": request.calibration, "number": request.number, "seed": request.seed}
    given = [f"calibration.{key}={value}" for key, value in changes.items() if value is not None]
    origin = request.recipe.name if request.recipe else f"--bits {request.bits or 4}"
    recipe = parse(override(document, [*request.settings, *given]), origin)
    if recipe.family != checkpoint.family:
        raise UserError(
            f"recipe {origin}", recipe.family, f"is for another family; {checkpoint.name} is {checkpoint.family}"
        )
    return recipe


def calibration_speech(recipe: Recipe) -> Speech:
    """Calibration speech; where none is needed, the two clips that prove the export, if there are any."""
    from edge_asr_deploy.corpora.defaults import evaluation_corpus
    from edge_asr_deploy.corpora.overlap import refuse_overlap
    from edge_asr_deploy.ptq.quantize import needs_samples

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

    transcriber = Transcriber.open(folder, verify=False, family=name, graphs=graphs)
    heard = {}
    for utterance in utterances:
        transcript = transcriber.transcribe(utterance.samples())
        text = transcript.text
        if refuses_coarse and (not text or transcript.loops or is_runaway(text)):
            raise UserError("export", utterance.id, f"became {text[:60]!r}: this recipe is too coarse; use more bits")
        heard[utterance.id] = text
    return heard
