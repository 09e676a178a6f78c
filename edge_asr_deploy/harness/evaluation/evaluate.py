"""A bundle against its float baseline: accuracy on all utterances, size, and speed side by side."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from edge_asr_deploy.bundle.manifest import Manifest, bundle_hash, read_manifest
from edge_asr_deploy.bundle.verification import verify
from edge_asr_deploy.corpora.normalize import normalizer_for
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.files import require_folder, write_output
from edge_asr_deploy.harness.evaluation.measure import Subject, measure_speed, speed_clips, transcribe_all
from edge_asr_deploy.harness.evaluation.options import EvaluateOptions
from edge_asr_deploy.harness.evaluation.result import Accuracy, Measured, NormalizerName, Result, Settings, Speed
from edge_asr_deploy.harness.evaluation.score import compare, score
from edge_asr_deploy.harness.evaluation.size import size_of
from edge_asr_deploy.harness.evaluation.speech import Item, load_speech, prepare, refuse_calibrated_on, select
from edge_asr_deploy.harness.evaluation.transcripts import TranscriptCache, default_root
from edge_asr_deploy.harness.machine.environment import environment
from edge_asr_deploy.progress import Progress, shown
from edge_asr_deploy.runtime.cpu import cpu_features
from edge_asr_deploy.runtime.options import describe_audio_context
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.targets import SessionOverrides, choose

# What onnxruntime does with MatMulNBits from a DequantizeLinear pair unless told otherwise.
DEFAULT_ACCURACY_LEVEL = 4
FEW_UTTERANCES = 100


def run(bundle: Path, options: EvaluateOptions, console: Console | None = None, command: str | None = None) -> Result:
    """What `edge-deploy evaluate` does: find baseline and speech, measure, say so on a console, write the output.

    `command` is the command line that asked for this, for the record. UserError before any work for bad input.
    """
    require_folder("--output", options.output)
    folder = baseline_folder(bundle, options.baseline)
    with shown(console) as progress:
        utterances, speech = load_speech(options.data, progress)
    if console:
        console.print(speech)
    utterances = select(utterances, options.limit, options.seed)
    with shown(console) as progress:
        result = evaluate(bundle, folder, utterances, speech, options, progress)
    result = result.model_copy(update={"command": command})
    if console:
        for note in result.notes:
            console.print(f"Note: {note.removesuffix('.')}.")
    if options.output is not None:
        write_output("--output", options.output, result.model_dump_json(indent=1) + "\n")
    return result


def evaluate(
    bundle: Path,
    baseline: Path | None,
    utterances: Sequence[Utterance],
    speech: str,
    options: EvaluateOptions,
    progress: Progress,
) -> Result:
    """Measure a bundle, and a baseline in the same run where one is given.

    `speech` is the sentence that says which speech this is. UserError when a bundle is damaged, when it was calibrated
    on one of the utterances, or when none has a reference.
    """
    folders = [bundle] if baseline is None else [bundle, baseline]
    manifests = [verify(folder) for folder in folders]
    normalizer = normalizer_for(options.language)
    items = prepare(utterances, normalizer, progress)
    for manifest in manifests:
        refuse_calibrated_on(manifest, items)
    wanted = [(options.target, options.margin), (None, None)][: len(folders)]
    targets = [choose(m.targets, name, cpu_features()) for m, (name, _) in zip(manifests, wanted, strict=True)]
    session = targets[0].settings(SessionOverrides(options.threads, options.accuracy_level))
    subjects = [
        Subject(folder, language_options(folder, options.language), target.name, margin)
        for folder, target, (_, margin) in zip(folders, targets, wanted, strict=True)
    ]

    accuracies: list[Accuracy] = []
    for subject, manifest in zip(subjects, manifests, strict=True):
        cache = None
        if options.cache:
            key = (bundle_hash(manifest), session, subject.options, subject.target, subject.audio_context)
            cache = TranscriptCache(default_root(), *key)
        texts = transcribe_all(subject, items, session, options.jobs, cache, progress)
        accuracies.append(score(items, texts, normalizer, options.seed))

    speeds: list[Speed | None] = [None] * len(subjects)
    if options.speed and options.clips:
        clips = speed_clips(items, options.clips)
        speeds = [*measure_speed(subjects, clips, session, options.rounds, progress)]

    measured = [
        _measured(folder, manifest, accuracy, speed)
        for folder, manifest, accuracy, speed in zip(folders, manifests, accuracies, speeds, strict=True)
    ]
    return Result(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        speech=speech,
        corpora=dict(Counter(item.utterance.source for item in items)),
        dropped=len(utterances) - len(items),
        normalizer=NormalizerName(name=normalizer.name, version=normalizer.version),
        settings=_settings(options, targets[0].name, session),
        environment=environment(),
        bundle=measured[0],
        baseline=measured[1] if len(measured) > 1 else None,
        comparison=compare(measured[0], measured[1], options.seed) if len(measured) > 1 else None,
        notes=_notes(manifests, items),
    )


def baseline_folder(bundle: Path, wanted: str) -> Path | None:
    """The bundle to compare with: the folder `wanted`, the one that `auto` finds (`find_baseline`), or none for `none`.

    UserError, before any work, when `bundle` or that folder is no bundle.
    """
    read_manifest(bundle)
    if wanted == "none":
        return None
    if wanted == "auto":
        return find_baseline(bundle)
    read_manifest(Path(wanted))
    return Path(wanted)


def find_baseline(bundle: Path) -> Path | None:
    """The float bundle (every component at 32 bits) of the same source weights beside `bundle`, the newest of several.

    None when `bundle` is that float bundle itself. UserError, saying how to make one, when there is none.
    """
    wanted = read_manifest(bundle)
    if _is_float32(wanted):
        return None
    found = []
    for folder in sorted(bundle.resolve().parent.iterdir()):
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        try:
            manifest = read_manifest(folder)
        except UserError:
            # A broken or foreign neighbour is not what was asked about.
            continue
        if manifest.model.sha256 == wanted.model.sha256 and _is_float32(manifest):
            found.append((manifest.created, folder))
    if not found:
        remedy = f"make it with `edge-deploy export --model {wanted.model.name} --bits 32`, or give --baseline BUNDLE"
        raise UserError("--baseline auto", bundle, f"no float bundle of the same weights lies beside it; {remedy}")
    return max(found)[1]


def _measured(folder: Path, manifest: Manifest, accuracy: Accuracy, speed: Speed | None) -> Measured:
    return Measured(
        name=manifest.name,
        hash=bundle_hash(manifest),
        recipe=str(manifest.recipe.get("name", "")),
        model=manifest.model.name,
        model_sha256=manifest.model.sha256,
        size=size_of(folder),
        accuracy=accuracy,
        speed=speed,
    )


def _settings(options: EvaluateOptions, target: str, session: SessionSettings) -> Settings:
    level = DEFAULT_ACCURACY_LEVEL if session.accuracy_level is None else session.accuracy_level
    because = "onnxruntime's default" if level == DEFAULT_ACCURACY_LEVEL else "the target's"
    if options.accuracy_level is not None:
        because = "as asked"
    activations = "int8, quantized block by block" if level == DEFAULT_ACCURACY_LEVEL else "not int8"
    return Settings(
        target=target,
        threads=options.threads,
        accuracy_level=level,
        accuracy_level_note=f"{because}; activations of the low-bit MatMuls are {activations}",
        audio_context=describe_audio_context(options.margin),
        language=options.language,
        seed=options.seed,
    )


def _notes(manifests: Sequence[Manifest], items: Sequence[Item]) -> list[str]:
    notes = []
    if len(items) < FEW_UTTERANCES:
        notes.append(f"{len(items)} utterances give a rough WER: read it with its interval")
    if len({manifest.model.sha256 for manifest in manifests}) > 1:
        notes.append("the baseline was made from other weights than the bundle")
    if manifests[0].model.grid_note:
        notes.append(manifests[0].model.grid_note)
    return notes


def _is_float32(manifest: Manifest) -> bool:
    specs = [manifest.recipe.get(component, {}).get("weights", {}) for component in COMPONENTS]
    layers = [layer for layer in manifest.recipe.get("layers", {}).values() if layer.get("bits") is not None]
    return all(spec.get("bits") == 32 for spec in (*specs, *layers))


def language_options(folder: Path, language: str) -> dict[str, str]:
    """Keywords of `Transcriber.transcribe` for speech in this language.

    English is not asked of an English-only model, which has no language tokens; the runtime judges other wishes.
    """
    path = folder / "generation_config.json"
    generation = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    needed = "lang_to_id" in generation or normalizer_for(language).name != normalizer_for(None).name
    return {"language": language} if needed else {}
