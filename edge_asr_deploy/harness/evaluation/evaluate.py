"""Evaluates a bundle against its float baseline: accuracy on all utterances, size, and speed side by side."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from edge_asr_deploy.bundle.manifest import Manifest, bundle_hash, read_manifest
from edge_asr_deploy.bundle.verification import verify
from edge_asr_deploy.corpora.normalize import UNSPACED, Rate, normalizer_for
from edge_asr_deploy.corpora.scripts import holds_unspaced
from edge_asr_deploy.corpora.utterance import Utterance
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.families.languages import language_code
from edge_asr_deploy.families.structure import COMPONENTS
from edge_asr_deploy.files import require_writable, write_output
from edge_asr_deploy.harness.evaluation.leaderboard import require_scorer, with_leaderboard
from edge_asr_deploy.harness.evaluation.measure import Subject, measure_speed, speed_clips, transcribe_all
from edge_asr_deploy.harness.evaluation.options import EvaluateOptions
from edge_asr_deploy.harness.evaluation.result import (
    Accuracy,
    Measured,
    NormalizerName,
    Result,
    Settings,
    Speed,
    Unreadable,
)
from edge_asr_deploy.harness.evaluation.score import compare, score
from edge_asr_deploy.harness.evaluation.size import size_of
from edge_asr_deploy.harness.evaluation.speech import Prepared, load_speech, prepare, refuse_calibrated_on, select
from edge_asr_deploy.harness.evaluation.transcripts import TranscriptCache, default_root
from edge_asr_deploy.harness.machine.environment import environment
from edge_asr_deploy.printing import note_line
from edge_asr_deploy.progress import Progress, shown
from edge_asr_deploy.runtime.cpu import cpu_features
from edge_asr_deploy.runtime.decoding.configuration import read_json
from edge_asr_deploy.runtime.options import Margin, describe_audio_context, margin_of
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.targets import SessionOverrides, choose

# onnxruntime's default for a MatMulNBits that it fused from a DequantizeLinear and a MatMul.
DEFAULT_ACCURACY_LEVEL = 4
FEW_UTTERANCES = 100


def run(bundle: Path, options: EvaluateOptions, console: Console | None = None, command: str | None = None) -> Result:
    """Do what `edge-deploy evaluate` does: find baseline and speech, measure, print notes, write the output file.

    `command` is the command line to store in the result. Bad input raises a UserError before any work begins.
    """
    require_writable("--output", options.output)
    if options.leaderboard:
        require_scorer(options.language)
    folder = baseline_folder(bundle, options.baseline)
    with shown(console) as progress:
        utterances, speech = load_speech(options.data, progress, options.skip_unreadable)
    if console:
        console.print(speech)
    utterances = select(utterances, options.limit, options.seed)
    with shown(console) as progress:
        result = evaluate(bundle, folder, utterances, speech, options, progress)
    result = result.model_copy(update={"command": command})
    result = with_leaderboard(result) if options.leaderboard else result
    if console:
        for note in result.notes:
            console.print(note_line(note))
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
    """Measure a bundle, and in the same run its baseline if one is given.

    `speech` is a sentence that describes the speech. UserError when a bundle is damaged, when it was calibrated on one
    of the utterances, or when no utterance has a reference.
    """
    folders = [bundle] if baseline is None else [bundle, baseline]
    manifests = [verify(folder) for folder in folders]
    normalizer = normalizer_for(options.language, (utterance.text for utterance in utterances))
    prepared = prepare(utterances, normalizer, progress, options.skip_unreadable)
    items = prepared.items
    for manifest in manifests:
        refuse_calibrated_on(manifest, items)
    margin = margin_of(manifests[0].family, options.margin)
    wanted = [(options.target, margin), (None, None)][: len(folders)]
    targets = [
        choose(manifest.targets, name, cpu_features()) for manifest, (name, _) in zip(manifests, wanted, strict=True)
    ]
    session = targets[0].settings(SessionOverrides(options.threads, options.accuracy_level))
    subjects = [
        Subject(folder, language_options(folder, options.language), target.name, seconds)
        for folder, target, (_, seconds) in zip(folders, targets, wanted, strict=True)
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
        dropped=prepared.without_text,
        unreadable=[Unreadable(id=clip.id, source=clip.source, reason=why) for clip, why in prepared.unreadable],
        normalizer=NormalizerName(name=normalizer.name, version=normalizer.version),
        settings=_settings(options, targets[0].name, session, margin),
        environment=environment(),
        bundle=measured[0],
        baseline=measured[1] if len(measured) > 1 else None,
        comparison=compare(measured[0], measured[1], options.seed) if len(measured) > 1 else None,
        notes=_notes(manifests, prepared, normalizer.rate, options.language),
    )


def baseline_folder(bundle: Path, wanted: str) -> Path | None:
    """The bundle to compare with: the folder `wanted`, for `auto` the one that `find_baseline` finds, for `none` None.

    UserError, before any work, when `bundle` or the folder is not a bundle.
    """
    read_manifest(bundle)
    if wanted == "none":
        return None
    if wanted == "auto":
        return find_baseline(bundle)
    read_manifest(Path(wanted))
    return Path(wanted)


def find_baseline(bundle: Path) -> Path | None:
    """The newest float bundle (every component at 32 bits) of the same source weights that lies beside `bundle`.

    None when `bundle` is itself the float bundle. UserError when there is none; its remedy says how to make one.
    """
    wanted = read_manifest(bundle)
    if _is_float32(wanted):
        return None
    candidates = []
    for folder in _neighbours(bundle):
        if folder.name.startswith(".") or not os.path.isdir(folder):
            continue
        try:
            manifest = read_manifest(folder)
        except UserError:
            # A broken bundle, or a folder of another kind, cannot be the baseline.
            continue
        # What is arranged for another engine cannot be run here.
        is_of_it = manifest.model.sha256 == wanted.model.sha256 and manifest.layout is None
        if is_of_it and _is_float32(manifest):
            candidates.append((manifest.created, folder))
    if not candidates:
        remedy = f"make it with `edge-deploy export --model {wanted.model.name} --bits 32`, or give --baseline BUNDLE"
        raise UserError("--baseline auto", bundle, f"no float bundle of the same weights lies beside it; {remedy}")
    return max(candidates)[1]


def _neighbours(bundle: Path) -> list[Path]:
    """What lies beside a bundle; nothing where that may not be listed."""
    try:
        return sorted(bundle.resolve().parent.iterdir())
    except OSError:
        return []


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


def _settings(options: EvaluateOptions, target: str, session: SessionSettings, margin: Margin) -> Settings:
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
        audio_context=describe_audio_context(margin),
        language=options.language,
        seed=options.seed,
    )


def _notes(manifests: Sequence[Manifest], prepared: Prepared, rate: Rate, language: str) -> list[str]:
    notes = []
    number, unreadable = len(prepared.items), len(prepared.unreadable)
    every = number + prepared.without_text + unreadable
    if prepared.without_text:
        notes.append(f"{prepared.without_text} of {every} utterances have no reference text and are left out")
    if unreadable:
        first = prepared.unreadable[0][1]
        notes.append(f"{unreadable} of {every} clips cannot be read and are left out; the first: {first}")
    if number < FEW_UTTERANCES:
        words = f"{number} utterances give" if number != 1 else "one utterance gives"
        notes.append(f"{words} a rough {rate}: read it with its interval")
    mixed = sum(holds_unspaced(item.reference) for item in prepared.items)
    if rate == "CER" and language_code(language) not in UNSPACED:
        notes.append("characters are counted (CER): the references are in a script without spaces; check --language")
    elif rate == "WER" and mixed:
        notes.append(f"{mixed} references hold a script without spaces: each of its characters counts as a word")
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

    An English-only Whisper has no language tokens, so English is not requested. The runtime checks any other language.
    Moonshine is a model for each language, and does not say which: it is never asked.
    """
    generation, config = (read_json(folder / name) for name in ("generation_config.json", "config.json"))
    is_asked = "lang_to_id" in generation or language_code(language) != "en"
    return {"language": language} if is_asked and config.get("model_type") != "moonshine" else {}
