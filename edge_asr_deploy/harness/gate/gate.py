"""The gate: measures bundles and compares them with their records. The verdicts come from `checks`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from edge_asr_deploy.bundle.manifest import MANIFEST, Manifest, bundle_hash, read_manifest
from edge_asr_deploy.bundle.verification import verify
from edge_asr_deploy.corpora.normalize import normalizer_for
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.files import require_writable, write_output
from edge_asr_deploy.harness.evaluation.evaluate import find_baseline
from edge_asr_deploy.harness.evaluation.score import score
from edge_asr_deploy.harness.evaluation.size import size_of
from edge_asr_deploy.harness.evaluation.speech import load_speech, prepare, refuse_calibrated_on
from edge_asr_deploy.harness.evaluation.transcripts import Text
from edge_asr_deploy.harness.gate import checks
from edge_asr_deploy.harness.gate.baseline import (
    Baseline,
    GoldenClip,
    Listening,
    PartRatios,
    Tolerances,
    baseline_path,
    bundle_of,
    is_ours,
    override,
    read_baseline,
    write_baseline,
)
from edge_asr_deploy.harness.gate.checks import BundleReport, Check, Report, not_measured
from edge_asr_deploy.harness.gate.clips import (
    Unavailable,
    available_speech,
    choose,
    find,
    recordings,
    text_of,
    transcribe,
)
from edge_asr_deploy.harness.gate.facts import facts_of, layer_forms, side_files
from edge_asr_deploy.harness.gate.junit import junit_xml
from edge_asr_deploy.harness.gate.options import CheckOptions
from edge_asr_deploy.harness.gate.relative_speed import PARTS, relative_speed
from edge_asr_deploy.harness.machine.environment import environment
from edge_asr_deploy.progress import Progress, shown

GRAPH_CHECKS = ("operators", "kernels", "dequantize", "stored-once")
SPEECH_CHECKS = ("tokens", "wer", "runaway", "empty")
SPEED_CHECKS = tuple(f"speed-{part}" for part in PARTS)


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


def check_bundle(bundle: Path, path: Path, record: Baseline, options: CheckOptions, progress: Progress) -> list[Check]:
    """All checks of one bundle, in the order of `checks.NAMES`."""
    tolerances = override(record.tolerances, options.tolerance)
    try:
        manifest = verify(bundle)
    except UserError as error:
        rest = (not_measured(name, "the bundle is damaged") for name in checks.NAMES[1:])
        return [checks.check_files(str(error), 0), *rest]
    _refuse_other_model(manifest, record, path)
    results = [
        checks.check_files(None, len(manifest.files)),
        checks.check_side_files(side_files(manifest), record.side_files),
        checks.check_layers(layer_forms(manifest.layers), record.layers),
        checks.check_size(size_of(bundle).onnx, record.onnx_bytes, tolerances.size),
    ]
    try:
        results += _graph_checks(bundle, manifest, record)
    except UserError as error:
        results.append(Check(name="operators", verdict="failed", note=str(error)))
        others = (*GRAPH_CHECKS[1:], *SPEECH_CHECKS, *SPEED_CHECKS)
        results += [not_measured(name, "onnxruntime does not load the graphs") for name in others]
    else:
        results += _speech_checks(bundle, manifest, record, tolerances, options, progress)
        results += _speed_checks(bundle, manifest, record, tolerances, options)
    return sorted(results, key=lambda check: checks.NAMES.index(check.name))


def record_of(bundle: Path, path: Path, old: Baseline | None, options: CheckOptions, progress: Progress) -> Baseline:
    """Measure a bundle for its record. If the bundle is unchanged, speeds on other CPUs are kept from `old`."""
    manifest = verify(bundle)
    if old is not None:
        _refuse_other_model(manifest, old, path)
    listening = Listening(**{**(old.listening.model_dump() if old else {}), **options.listening})
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
    here, digest = environment(), bundle_hash(manifest)
    speed = dict(old.speed) if old and old.bundle_hash == digest else {}
    float_bundle = _float_bundle(bundle, manifest, options.float_bundle)
    if isinstance(float_bundle, Path):
        ratios = relative_speed(bundle, float_bundle, listening.accuracy_level, {})
        speed[here.cpu] = PartRatios(**{part: round(ratio.value, 4) for part, ratio in ratios.items()})
    return Baseline(
        bundle=manifest.name,
        bundle_hash=digest,
        family=manifest.family,
        model=manifest.model.name,
        model_sha256=manifest.model.sha256,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=here,
        listening=listening,
        speech=", ".join(f"{source} ({count})" for source, count in Counter(clip.source for clip in clips).items()),
        tolerances=tolerances,
        onnx_bytes=size_of(bundle).onnx,
        wer=round(score(items, [text_of(clip) for clip in clips], normalizer, seed=0).pooled.wer, 6),
        layers=layer_forms(manifest.layers),
        operators=facts.operators,
        side_files=side_files(manifest),
        speed=speed,
        clips=clips,
    )


def _graph_checks(bundle: Path, manifest: Manifest, record: Baseline) -> list[Check]:
    facts, here, there = facts_of(bundle, manifest), environment(), record.environment
    is_same_software = (here.onnxruntime, here.machine) == (there.onnxruntime, there.machine)
    return [
        checks.check_operators(facts.operators, record.operators, is_same_software),
        checks.check_kernels(facts.kernels, facts.wanted_kernels),
        checks.check_dequantize(facts.expanded),
        checks.check_stored_once(facts.duplicates),
    ]


def _speech_checks(
    bundle: Path,
    manifest: Manifest,
    record: Baseline,
    tolerances: Tolerances,
    options: CheckOptions,
    progress: Progress,
) -> list[Check]:
    try:
        utterances = available_speech(options.data)
    except UserError as error:
        if options.data:
            raise
        return [not_measured(name, str(error)) for name in SPEECH_CHECKS]
    present = recordings(record.clips, utterances)
    if isinstance(present, Unavailable):
        return [not_measured(name, present.reason) for name in SPEECH_CHECKS]
    normalizer = normalizer_for(record.listening.language, (utterance.text for utterance in present))
    items = find(record.clips, present, normalizer, progress)
    if isinstance(items, Unavailable):
        return [not_measured(name, items.reason) for name in SPEECH_CHECKS]
    refuse_calibrated_on(manifest, items)
    try:
        transcripts = transcribe(bundle, items, record.listening, progress)
    except UserError as error:
        failed = Check(name="tokens", verdict="failed", measured="no transcripts", note=str(error))
        return [failed, *(not_measured(name, "the bundle does not transcribe") for name in SPEECH_CHECKS[1:])]
    here, there = environment(), record.environment
    is_same_rounding = (here.cpu, here.onnxruntime) == (there.cpu, there.onnxruntime)
    tokens = [" ".join(map(str, transcript.tokens)) for transcript in transcripts]
    ours = score(items, [Text.of(transcript) for transcript in transcripts], normalizer, seed=0)
    recorded = score(items, [text_of(clip) for clip in record.clips], normalizer, seed=0)
    return [
        checks.check_tokens(
            tokens,
            [clip.tokens for clip in record.clips],
            [clip.id for clip in record.clips],
            tolerances.tokens if is_same_rounding else tolerances.tokens_elsewhere,
        ),
        checks.check_wer(ours, recorded, tolerances.wer_absolute, tolerances.wer_relative),
        checks.check_count("runaway", ours.runaway, recorded.runaway, tolerances.runaway),
        checks.check_count("empty", ours.empty, recorded.empty, tolerances.empty),
    ]


def _speed_checks(
    bundle: Path, manifest: Manifest, record: Baseline, tolerances: Tolerances, options: CheckOptions
) -> list[Check]:
    float_bundle = _float_bundle(bundle, manifest, options.float_bundle)
    if isinstance(float_bundle, Unavailable):
        return [not_measured(name, float_bundle.reason) for name in SPEED_CHECKS]
    cpu = environment().cpu
    if cpu not in record.speed:
        remedy = f"the record has no speed on {cpu}; measure the good bundle here with --update-baseline"
        return [not_measured(name, remedy) for name in SPEED_CHECKS]
    limits = {part: getattr(record.speed[cpu], part) * (1 + tolerances.speed) for part in PARTS}
    try:
        ratios = relative_speed(bundle, float_bundle, record.listening.accuracy_level, limits)
    except UserError as error:
        return [not_measured(name, str(error)) for name in SPEED_CHECKS]
    return [checks.check_speed(part, ratios[part], limits[part]) for part in PARTS]


def _float_bundle(bundle: Path, manifest: Manifest, wanted: str) -> Path | Unavailable:
    """The float bundle to compare speed with. UserError when the bundle `wanted` was made from other weights."""
    if wanted == "none":
        return Unavailable("there is no float bundle to compare with; give --float BUNDLE")
    if wanted == "auto":
        try:
            return find_baseline(bundle) or Unavailable("this is the float bundle itself")
        except UserError:
            return Unavailable(f"there is no float bundle of {manifest.model.name} beside it; give --float BUNDLE")
    folder = Path(wanted)
    if verify(folder).model.sha256 != manifest.model.sha256:
        raise UserError("--float", folder, f"was made from other weights than {bundle}; give its own float bundle")
    return folder


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
        members = [check for check in checks.NAMES if check == name or check.startswith(f"{name}-")]
        if not members:
            remedy = f"no such check; choose one of {', '.join(checks.NAMES)}, or `speed` for all speed checks"
            raise UserError("--allow-unmeasured", name, remedy)
        allowed.update(members)
    return [name for name in checks.NAMES if name in allowed]


def _refuse_other_model(manifest: Manifest, record: Baseline, path: Path) -> None:
    if manifest.model.sha256 != record.model_sha256:
        remedy = f"is a record of {record.model}, made from other weights than {manifest.name}; give its own record"
        raise UserError("--baseline", path, remedy)
