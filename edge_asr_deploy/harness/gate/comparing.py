"""Measures one bundle and compares it with its record. The verdicts come from `checks`."""

from __future__ import annotations

from pathlib import Path

from edge_asr_deploy.bundle.manifest import Manifest
from edge_asr_deploy.bundle.verification import verify
from edge_asr_deploy.corpora.normalize import normalizer_for
from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.evaluation.evaluate import find_baseline
from edge_asr_deploy.harness.evaluation.score import score
from edge_asr_deploy.harness.evaluation.size import size_of
from edge_asr_deploy.harness.evaluation.speech import refuse_calibrated_on
from edge_asr_deploy.harness.evaluation.transcripts import Text
from edge_asr_deploy.harness.gate import checks
from edge_asr_deploy.harness.gate.baseline import Baseline
from edge_asr_deploy.harness.gate.checks import with_warning
from edge_asr_deploy.harness.gate.clips import Unavailable, available_speech, find, recordings, text_of, transcribe
from edge_asr_deploy.harness.gate.facts import facts_of, layer_forms, side_files
from edge_asr_deploy.harness.gate.options import CheckOptions
from edge_asr_deploy.harness.gate.processor import processor
from edge_asr_deploy.harness.gate.relative_speed import PARTS, relative_speed
from edge_asr_deploy.harness.gate.report import NAMES, Check, not_measured
from edge_asr_deploy.harness.gate.targets import check_targets, to_be_heard
from edge_asr_deploy.harness.gate.tolerances import Tolerances, excess, override
from edge_asr_deploy.harness.machine.environment import environment
from edge_asr_deploy.progress import Progress

GRAPH_CHECKS = ("operators", "kernels", "dequantize", "stored-once")
SPEECH_CHECKS = ("tokens", "wer", "runaway", "empty")
SPEED_CHECKS = tuple(f"speed-{part}" for part in PARTS)
_RANKS = ("passed", "not measured", "failed")
# The tolerances that a check's limit is made of.
_TOLERANCES = {
    "size": ("size",),
    "tokens": ("tokens", "tokens_elsewhere"),
    "wer": ("wer_absolute", "wer_relative"),
    "runaway": ("runaway",),
    "empty": ("empty",),
    **dict.fromkeys(SPEED_CHECKS, ("speed",)),
}


def check_bundle(bundle: Path, path: Path, record: Baseline, options: CheckOptions, progress: Progress) -> list[Check]:
    """All checks of one bundle, in the order of `NAMES`."""
    tolerances = override(record.tolerances, options.tolerance)
    try:
        manifest = verify(bundle)
    except UserError as error:
        rest = (not_measured(name, "the bundle is damaged") for name in NAMES[1:])
        return [checks.check_files(str(error), 0), *rest]
    refuse_other_model(manifest, record, path)
    results = [
        checks.check_files(None, len(manifest.files)),
        checks.check_side_files(side_files(manifest), record.side_files),
        checks.check_layers(layer_forms(manifest.layers), record.layers),
        checks.check_size(size_of(bundle).onnx, record.onnx_bytes, tolerances.size),
    ]
    results.append(check_targets(bundle, manifest, record.targets))
    try:
        results += _graph_checks(bundle, manifest, record)
    except UserError as error:
        results.append(Check(name="operators", verdict="failed", note=str(error)))
        others = (*GRAPH_CHECKS[1:], *SPEECH_CHECKS, *SPEED_CHECKS)
        results += [not_measured(name, "onnxruntime does not load the graphs") for name in others]
    else:
        results += _speech_checks(bundle, manifest, record, tolerances, options, progress)
        results += _speed_checks(bundle, manifest, record, tolerances, options)
    warned = [with_warning(one, excess(tolerances, *_TOLERANCES.get(one.name, ()))) for one in results]
    return sorted(warned, key=lambda check: NAMES.index(check.name))


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
        others = {
            name: transcribe(bundle, items, record.listening, progress, name)
            for name in to_be_heard(bundle, manifest, record.targets)
        }
    except UserError as error:
        failed = Check(name="tokens", verdict="failed", measured="no transcripts", note=str(error))
        return [failed, *(not_measured(name, "the bundle does not transcribe") for name in SPEECH_CHECKS[1:])]
    is_same_version = environment().onnxruntime == record.environment.onnxruntime
    is_same_rounding = is_same_version and processor() == record.processor
    tokens = [" ".join(map(str, transcript.tokens)) for transcript in transcripts]
    ours = score(items, [Text.of(transcript) for transcript in transcripts], normalizer, seed=0)
    recorded = score(items, [text_of(clip) for clip in record.clips], normalizer, seed=0)
    wer = checks.check_wer(ours, recorded, tolerances.wer_absolute, tolerances.wer_relative)
    for target, heard in others.items():
        # Other targets round differently, so that only their errors are compared.
        errors = score(items, [Text.of(transcript) for transcript in heard], normalizer, seed=0)
        one = checks.check_wer(errors, recorded, tolerances.wer_absolute, tolerances.wer_relative)
        if _RANKS.index(one.verdict) > _RANKS.index(wer.verdict):
            wer = one.model_copy(update={"note": f"target {target}: {one.note}"})
    return [
        checks.check_tokens(
            tokens,
            [clip.tokens for clip in record.clips],
            [clip.id for clip in record.clips],
            tolerances.tokens if is_same_rounding else tolerances.tokens_elsewhere,
        ),
        wer,
        checks.check_count("runaway", ours.runaway, recorded.runaway, tolerances.runaway),
        checks.check_count("empty", ours.empty, recorded.empty, tolerances.empty),
    ]


def _speed_checks(
    bundle: Path, manifest: Manifest, record: Baseline, tolerances: Tolerances, options: CheckOptions
) -> list[Check]:
    float_bundle = float_bundle_of(bundle, manifest, options.float_bundle)
    if isinstance(float_bundle, Unavailable):
        return [not_measured(name, float_bundle.reason) for name in SPEED_CHECKS]
    cpu = processor()
    if cpu not in record.speed:
        remedy = f"the record has no speed on {cpu}; measure the good bundle here with --update-baseline"
        return [not_measured(name, remedy) for name in SPEED_CHECKS]
    limits = {part: getattr(record.speed[cpu], part) * (1 + tolerances.speed) for part in PARTS}
    try:
        ratios = relative_speed(bundle, float_bundle, record.listening.accuracy_level, limits)
    except UserError as error:
        return [not_measured(name, str(error)) for name in SPEED_CHECKS]
    return [checks.check_speed(part, ratios[part], limits[part]) for part in PARTS]


def float_bundle_of(bundle: Path, manifest: Manifest, wanted: str) -> Path | Unavailable:
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


def refuse_other_model(manifest: Manifest, record: Baseline, path: Path) -> None:
    """UserError when the record is of another model than the bundle."""
    if manifest.model.sha256 != record.model_sha256:
        remedy = f"is a record of {record.model}, made from other weights than {manifest.name}; give its own record"
        raise UserError("--baseline", path, remedy)
