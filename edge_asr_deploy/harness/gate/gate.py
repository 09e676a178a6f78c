"""The gate: measures bundles and compares them with their records. The verdicts come from `checks`."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from edge_asr_deploy.bundle.manifest import MANIFEST, bundle_hash, read_manifest
from edge_asr_deploy.bundle.verification import verify
from edge_asr_deploy.corpora.normalize import normalizer_for
from edge_asr_deploy.errors import Note, UserError
from edge_asr_deploy.files import require_writable, write_output
from edge_asr_deploy.harness.evaluation.score import score
from edge_asr_deploy.harness.evaluation.size import size_of
from edge_asr_deploy.harness.evaluation.speech import load_speech, prepare, refuse_calibrated_on
from edge_asr_deploy.harness.gate.baseline import (
    Baseline,
    GoldenClip,
    Listening,
    PartRatios,
    baseline_path,
    bundle_of,
    is_ours,
    read_baseline,
    write_baseline,
)
from edge_asr_deploy.harness.gate.checks import few_clips
from edge_asr_deploy.harness.gate.clips import choose, text_of, transcribe
from edge_asr_deploy.harness.gate.comparing import check_bundle, float_bundle_of, refuse_other_model
from edge_asr_deploy.harness.gate.facts import facts_of, layer_forms, side_files
from edge_asr_deploy.harness.gate.junit import junit_xml
from edge_asr_deploy.harness.gate.options import CheckOptions
from edge_asr_deploy.harness.gate.processor import processor
from edge_asr_deploy.harness.gate.relative_speed import relative_speed
from edge_asr_deploy.harness.gate.report import NAMES, BundleReport, Report
from edge_asr_deploy.harness.gate.targets import target_files
from edge_asr_deploy.harness.gate.tolerances import Tolerances, excess, override
from edge_asr_deploy.harness.machine.environment import environment
from edge_asr_deploy.progress import Progress, shown
from edge_asr_deploy.runtime.options import margin_of


def check(bundles: Sequence[Path], options: CheckOptions, console: Console | None = None) -> Report:
    """Check bundles against their records.

    `allow_unmeasured` names checks, or groups of them (`speed`), that may be "not measured" without failing the gate. A
    bad bundle is a failed check. Bad input, such as a missing file, raises a UserError before any work begins.
    """
    allowed = _allowed(options.allow_unmeasured)
    require_writable("--junit", options.junit)
    bundles = _bundles(bundles, options.only_bundles)
    paths = _paths(bundles, options.baseline)
    records = [read_baseline(path) for path in paths]
    reports = []
    # A hook that has nothing to check says nothing.
    with shown(console if bundles else None) as progress:
        for bundle, path, record in zip(bundles, paths, records, strict=True):
            results = check_bundle(bundle, path, record, options, progress)
            reports.append(BundleReport(bundle=str(bundle), baseline=str(path), checks=results))
    report = Report(allowed=allowed, bundles=reports)
    if options.junit is not None:
        write_output("--junit", options.junit, junit_xml(report))
    return report


def update(bundles: Sequence[Path], options: CheckOptions, console: Console) -> list[Path]:
    """Measure bundles and write their records. An existing record keeps its tolerances and transcription settings.

    UserError for a damaged bundle, and for an existing record of another model, which is not replaced.
    """
    bundles = _bundles(bundles, options.only_bundles)
    paths = _paths(bundles, options.baseline)
    for path in paths:
        require_writable("--baseline", path, makes_folders=True)
    with shown(console) as progress:
        for bundle, path in zip(bundles, paths, strict=True):
            record = record_of(bundle, path, read_baseline(path) if path.exists() else None, options, progress)
            write_baseline(path, record)
            speed = "with speed" if record.speed else "without speed: there is no float bundle to compare with"
            console.print(f"{path}: {len(record.clips)} clips, word error rate {record.wer:.2%}, {speed}.")
    return paths


def record_of(bundle: Path, path: Path, old: Baseline | None, options: CheckOptions, progress: Progress) -> Baseline:
    """Measure a bundle for its record. If the bundle is unchanged, speeds on other CPUs are kept from `old`."""
    manifest = verify(bundle)
    if old is not None:
        refuse_other_model(manifest, old, path)
    given = {"audio_context": margin_of(manifest.family, "auto"), **options.listening}
    listening = Listening(**(given if old is None else {**old.listening.model_dump(), **options.listening}))
    tolerances = override(old.tolerances if old else Tolerances(), options.tolerance)
    facts = facts_of(bundle, manifest)
    utterances, _ = load_speech(options.data)
    chosen = choose(utterances, options.number)
    normalizer = normalizer_for(listening.language, (utterance.text for utterance in chosen))
    items = prepare(chosen, normalizer, progress).items
    refuse_calibrated_on(manifest, items)
    transcripts = transcribe(bundle, items, listening, progress)
    clips = [
        GoldenClip(
            id=item.utterance.id,
            source=item.utterance.source,
            fingerprint=item.fingerprint,
            text=transcript.text,
            tokens=" ".join(map(str, transcript.tokens)),
        )
        for item, transcript in zip(items, transcripts, strict=True)
    ]
    digest = bundle_hash(manifest)
    speed = dict(old.speed) if old and old.bundle_hash == digest else {}
    float_bundle = float_bundle_of(bundle, manifest, options.float_bundle)
    if isinstance(float_bundle, Path):
        ratios = relative_speed(bundle, float_bundle, listening.accuracy_level, {})
        busy = next(iter(ratios.values())).busy
        if busy:
            _note(f"{path}: the speed was measured on a busy machine ({busy}); write the record on a quiet one")
        speed[processor()] = PartRatios(**{part: round(ratio.value, 4) for part, ratio in ratios.items()})
    accuracy = score(items, [text_of(clip) for clip in clips], normalizer, seed=0)
    for warning in (few_clips(len(clips), accuracy.pooled.words), excess(tolerances, *Tolerances.model_fields)):
        if warning:
            _note(f"{path}: {warning}")
    return Baseline(
        bundle=manifest.name,
        bundle_hash=digest,
        family=manifest.family,
        model=manifest.model.name,
        model_sha256=manifest.model.sha256,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment(),
        processor=processor(),
        listening=listening,
        speech=", ".join(f"{source} ({count})" for source, count in Counter(clip.source for clip in clips).items()),
        tolerances=tolerances,
        onnx_bytes=size_of(bundle).onnx,
        wer=round(accuracy.pooled.wer, 6),
        layers=layer_forms(manifest.layers),
        operators=facts.operators,
        targets=target_files(bundle, manifest),
        side_files=side_files(manifest),
        speed=speed,
        clips=clips,
    )


def _note(text: str) -> None:
    warnings.warn(Note(text), stacklevel=2)


def _bundles(named: Sequence[Path], only_bundles: bool) -> list[Path]:
    """The bundles without repetitions. UserError for a folder without a manifest; a broken one is a failed check.

    With `only_bundles`, files of other programs are passed over.
    """
    bundles = list(dict.fromkeys(bundle_of(path) for path in named if not only_bundles or is_ours(path)))
    for bundle in bundles:
        if not (bundle / MANIFEST).is_file():
            read_manifest(bundle)
    return bundles


def _paths(bundles: Sequence[Path], baseline: Path | None) -> list[Path]:
    if baseline is not None and len(bundles) > 1 and not baseline.is_dir():
        raise UserError(
            "--baseline", baseline, "is the record of one bundle; for several bundles, give the folder of their records"
        )
    return [baseline_path(bundle, baseline) for bundle in bundles]


def _allowed(names: Sequence[str]) -> list[str]:
    allowed: set[str] = set()
    for name in names:
        members = [check for check in NAMES if check == name or check.startswith(f"{name}-")]
        if not members:
            remedy = f"no such check; choose one of {', '.join(NAMES)}, or `speed` for all speed checks"
            raise UserError("--allow-unmeasured", name, remedy)
        allowed.update(members)
    return [name for name in NAMES if name in allowed]
