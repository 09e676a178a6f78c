"""A bundle against its float baseline: accuracy on all utterances, size, and speed side by side."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
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
from edge_asr_deploy.harness.evaluation.result import Accuracy, Measured, NormalizerName, Result, Settings, Speed
from edge_asr_deploy.harness.evaluation.score import compare, judge
from edge_asr_deploy.harness.evaluation.size import size_of
from edge_asr_deploy.harness.evaluation.speech import Item, load_speech, prepare, refuse_calibrated_on, select
from edge_asr_deploy.harness.evaluation.transcripts import TranscriptCache, default_root
from edge_asr_deploy.harness.machine.environment import environment
from edge_asr_deploy.progress import Progress, shown
from edge_asr_deploy.runtime.cpu import cpu_features
from edge_asr_deploy.runtime.decoding.audio_context import describe_audio_context
from edge_asr_deploy.runtime.session import SessionSettings
from edge_asr_deploy.runtime.targets import Wish, choose

# What onnxruntime does with MatMulNBits from a DequantizeLinear pair unless told otherwise.
DEFAULT_ACCURACY_LEVEL = 4
FEW_UTTERANCES = 100


@dataclass(frozen=True)
class EvaluationSettings:
    """How to measure. `clips` and `rounds` are of the speed part; 0 clips leaves it out.

    `target` names one of the bundle's, as in `Transcriber.open`; the baseline's graphs are those for this CPU.
    """

    threads: int = 2
    accuracy_level: int | None = None
    language: str = "en"
    jobs: int = 1
    clips: int = 5
    rounds: int = 3
    seed: int = 0
    target: str | None = None
    audio_context: float | None = None
    """Of the bundle, as in `SessionSettings`; the baseline is given full windows."""


def run(
    bundle: Path,
    baseline: str,
    data: Sequence[str | Path],
    limit: int | None,
    settings: EvaluationSettings,
    cache: bool,
    output: Path | None,
    messages: Console,
    command: str | None = None,
) -> Result:
    """What `edge-deploy evaluate` does: find baseline and speech, measure, say so on `messages`, write `output`.

    `baseline` is a folder, `auto` or `none` (`baseline_folder`); without `data` (as `load_speech` takes it) the default
    evaluation corpus is used. `command` is the command line that asked for this, for the record.
    """
    require_folder("--output", output)
    folder = baseline_folder(bundle, baseline)
    with shown(messages) as progress:
        utterances, speech = load_speech(data, progress)
    messages.print(speech)
    root = default_root() if cache else None
    with shown(messages) as progress:
        result = evaluate(bundle, folder, select(utterances, limit, settings.seed), speech, settings, root, progress)
    result = result.model_copy(update={"command": command})
    for note in result.notes:
        messages.print(f"Note: {note.removesuffix('.')}.")
    if output is not None:
        write_output("--output", output, result.model_dump_json(indent=1) + "\n")
    return result


def evaluate(
    bundle: Path,
    baseline: Path | None,
    utterances: Sequence[Utterance],
    speech: str,
    settings: EvaluationSettings,
    cache_root: Path | None,
    progress: Progress,
) -> Result:
    """Measure a bundle, and a baseline in the same run where one is given.

    `speech` is the sentence that says which speech this is. `cache_root` keeps texts between runs (None: no cache).
    UserError when a bundle is damaged, when it was calibrated on one of the utterances, or when none has a reference.
    """
    folders = [bundle] if baseline is None else [bundle, baseline]
    manifests = [verify(folder) for folder in folders]
    normalizer = normalizer_for(settings.language)
    items = prepare(utterances, normalizer, progress)
    for manifest in manifests:
        refuse_calibrated_on(manifest, items)
    wanted = [settings.target, None][: len(folders)]
    targets = [choose(m.targets, name, cpu_features()) for m, name in zip(manifests, wanted, strict=True)]
    session = targets[0].settings(Wish(settings.threads, settings.accuracy_level))
    subjects = [
        Subject(folder, language_options(folder, settings.language), target.name, context)
        for folder, target, context in zip(folders, targets, [settings.audio_context, None], strict=False)
    ]

    accuracies: list[Accuracy] = []
    for subject, manifest in zip(subjects, manifests, strict=True):
        cache = None
        if cache_root:
            mine = subject.session(session)
            cache = TranscriptCache(cache_root, bundle_hash(manifest), mine, subject.options, subject.target)
        texts = transcribe_all(subject, items, session, settings.jobs, cache, progress)
        accuracies.append(judge(items, texts, normalizer, settings.seed))

    speeds: list[Speed | None] = [None] * len(subjects)
    if settings.clips:
        clips = speed_clips(items, settings.clips)
        speeds = [*measure_speed(subjects, clips, session, settings.rounds, progress)]

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
        settings=_settings(settings, targets[0].name, session),
        environment=environment(),
        bundle=measured[0],
        baseline=measured[1] if len(measured) > 1 else None,
        comparison=compare(measured[0], measured[1], settings.seed) if len(measured) > 1 else None,
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


def _settings(settings: EvaluationSettings, target: str, session: SessionSettings) -> Settings:
    level = DEFAULT_ACCURACY_LEVEL if session.accuracy_level is None else session.accuracy_level
    says = "onnxruntime's default" if level == DEFAULT_ACCURACY_LEVEL else "the target's"
    if settings.accuracy_level is not None:
        says = "as asked"
    activations = "int8, quantized block by block" if level == DEFAULT_ACCURACY_LEVEL else "not int8"
    return Settings(
        target=target,
        threads=settings.threads,
        accuracy_level=level,
        accuracy_level_note=f"{says}; activations of the low-bit MatMuls are {activations}",
        audio_context=describe_audio_context(settings.audio_context),
        language=settings.language,
        seed=settings.seed,
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
