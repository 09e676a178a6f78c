"""The gate's verdicts: pure functions of the measured values and the allowed ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from edge_asr_deploy.bundle.side_files import VOCABULARY_FILES
from edge_asr_deploy.harness.evaluation.bootstrap import difference_interval
from edge_asr_deploy.harness.evaluation.result import Accuracy
from edge_asr_deploy.harness.gate.relative_speed import Ratio
from edge_asr_deploy.harness.gate.report import Check, Verdict, not_measured

if TYPE_CHECKING:
    # This import needs onnx, which is missing on machines that only print results.
    from edge_asr_deploy.harness.gate.facts import Duplicate

MB = 1_000_000
# A limit that is this many times the noise above the measured value is too generous.
SLACK = 4
# Differences between two good runs that the interval of a single run does not show.
SIZE_NOISE = 0.005
SPEED_NOISE = 0.03
WORDS_NOISE = 2
HASH = 64
# Fewer clips show only large faults: with 20 clips of 10 words, one word is half a point of the word error rate.
FEW_CLIPS = 20


def check_files(damage: str | None, files: int) -> Check:
    """Check that every byte is as the manifest says. `damage` describes the first difference."""
    if damage:
        return Check(name="files", verdict="failed", measured="damaged", limit="as in the manifest", note=damage)
    return Check(name="files", verdict="passed", measured=f"{files} files intact", limit="as in the manifest")


def check_side_files(measured: Mapping[str, str], recorded: Mapping[str, str]) -> Check:
    """Check that tokenizer and configuration are byte for byte those of the record.

    Records of earlier versions have no copies of the vocabulary for other engines, which those did not write.
    """
    known = {name: digest for name, digest in measured.items() if name in recorded or name not in VOCABULARY_FILES}
    return _same("side-files", known, recorded, "files")


def check_layers(measured: Mapping[str, str], recorded: Mapping[str, str]) -> Check:
    """Check that every weight matrix is stored as in the record, so that no layer was left in float by mistake."""
    return _same("layers", measured, recorded, "layers")


def check_operators(
    measured: Mapping[str, Mapping[str, int]], recorded: Mapping[str, Mapping[str, int]], is_same_software: bool
) -> Check:
    """Check that the optimized graphs have the record's operators, file by file.

    Another onnxruntime or architecture fuses operators differently. A difference then says nothing about the bundle.
    """
    flat, wanted = (
        {f"{file}: {kind}": str(number) for file, kinds in counts.items() for kind, number in kinds.items()}
        for counts in (measured, recorded)
    )
    check = _same("operators", flat, wanted, "counts")
    if check.verdict == "failed" and not is_same_software and measured.keys() == recorded.keys():
        note = f"this is another onnxruntime or architecture than the record's, which fuses differently ({check.note})"
        return check.model_copy(update={"verdict": "not measured", "note": note})
    return check


def check_kernels(measured: Mapping[str, int], wanted: Mapping[str, int]) -> Check:
    """Check that every integer matrix of the manifest runs in a low-bit kernel. The counts are by file."""
    missing = {
        file: number - measured.get(file, 0) for file, number in wanted.items() if measured.get(file, 0) < number
    }
    note = "; ".join(f"{file}: {number} integer matrices run in float" for file, number in missing.items())
    return Check(
        name="kernels",
        verdict="failed" if missing else "passed",
        measured=f"{sum(measured.values())} low-bit kernels",
        limit=f"at least {sum(wanted.values())}",
        note=note,
    )


def check_dequantize(survivors: Sequence[str]) -> Check:
    """Check that no DequantizeLinear of a matrix survives the optimization. `survivors` names those that do."""
    return Check(
        name="dequantize",
        verdict="failed" if survivors else "passed",
        measured=f"{len(survivors)} expanded matrices",
        limit="0",
        note=_first_few(survivors),
    )


def check_stored_once(duplicates: Sequence[Duplicate]) -> Check:
    """Check that no weight is stored twice, within a file or across files."""
    wasted = sum(duplicate.wasted for duplicate in duplicates)
    largest = sorted(duplicates, key=lambda duplicate: -duplicate.wasted)
    return Check(
        name="stored-once",
        verdict="failed" if duplicates else "passed",
        measured=f"{wasted} bytes stored twice",
        limit="0 bytes",
        note=_first_few([" = ".join(duplicate.places) for duplicate in largest]),
    )


def check_size(size: int, recorded: int, tolerance: float) -> Check:
    """Check the bytes of the ONNX files. `tolerance` is the allowed growth."""
    limit = recorded * (1 + tolerance)
    return Check(
        name="size",
        verdict="passed" if size <= limit else "failed",
        measured=f"{size / MB:.3f} MB",
        limit=f"{limit / MB:.3f} MB",
        note=f"record: {recorded / MB:.3f} MB",
        slack=_slack(size, limit, SIZE_NOISE * recorded, lambda value: f"{value / MB:.3f} MB"),
    )


def check_tokens(measured: Sequence[str], recorded: Sequence[str], ids: Sequence[str], tolerance: float) -> Check:
    """Check the tokens of every clip, in the order of `ids`. `tolerance` is the share of clips that may differ."""
    different = [clip for clip, ours, theirs in zip(ids, measured, recorded, strict=True) if ours != theirs]
    allowed = int(tolerance * len(ids))
    return Check(
        name="tokens",
        verdict="passed" if len(different) <= allowed else "failed",
        measured=f"{len(different)} of {len(ids)} clips differ",
        limit=f"{allowed} clips",
        note=_first_few(different),
    )


def check_wer(ours: Accuracy, recorded: Accuracy, absolute: float, relative: float) -> Check:
    """Check the rise of the WER on the same clips against the larger of an absolute and a relative tolerance.

    A rise beyond the limit counts as "not measured" if its paired 95 % interval includes zero, because these clips
    cannot distinguish it from chance.
    """
    low, high = difference_interval(
        [row.errors for row in ours.rows], [row.errors for row in recorded.rows], [row.words for row in ours.rows]
    )
    rise = ours.pooled.wer - recorded.pooled.wer
    limit = max(absolute, relative * recorded.pooled.wer)
    noise = max((high - low) / 2, WORDS_NOISE / ours.pooled.words)
    counted = "" if ours.rate == "WER" else f"{ours.rate}: "
    note = f"{counted}record {recorded.pooled.wer:.2%}, now {ours.pooled.wer:.2%}; rise {low:+.2%} to {high:+.2%}"
    verdict: Verdict = "passed"
    if rise > limit and low > 0:
        verdict = "failed"
    elif rise > limit:
        verdict = "not measured"
        note += f": {len(ours.rows)} clips cannot distinguish this from chance; record more clips with --number"
    return Check(
        name="wer",
        verdict=verdict,
        measured=f"{rise:+.2%}",
        limit=f"{limit:+.2%}",
        note=note,
        slack=_slack(rise, limit, noise, lambda value: f"{value:+.2%}"),
        warning=few_clips(len(ours.rows), ours.pooled.words),
    )


def few_clips(clips: int, words: int) -> str:
    """A warning that tells what so few clips cannot show; empty when they are enough."""
    if clips >= FEW_CLIPS:
        return ""
    counted = "1 clip" if clips == 1 else f"{clips} clips"
    return (
        f"with {counted} of {words} words only gross faults show: one word is {1 / max(1, words):.1%}, and a fault in "
        f"other words or voices stays unseen; record {FEW_CLIPS} clips or more of your own with --data and --number"
    )


def with_warning(check: Check, warning: str) -> Check:
    """The check with one more warning; unchanged if that is empty."""
    return check.model_copy(update={"warning": "; ".join(filter(None, (check.warning, warning)))})


def check_count(name: str, measured: int, recorded: int, tolerance: int) -> Check:
    """Check the number of clips that failed as a whole: `runaway` or `empty`."""
    limit = recorded + tolerance
    return Check(
        name=name,
        verdict="passed" if measured <= limit else "failed",
        measured=f"{measured} clips",
        limit=f"{limit} clips",
        note=f"record: {recorded}",
    )


def check_speed(part: str, ratio: Ratio, limit: float) -> Check:
    """Check the processor time divided by the float bundle's, which was measured in the same run.

    Little above the limit the ratio may be a good one that a busy machine has moved. That says nothing of the bundle.
    """
    spread = f"{ratio.low:.3f} to {ratio.high:.3f} in {ratio.rounds} openings"
    if ratio.is_doubtful(limit):
        note = f"machine busy: {ratio.busy} ({spread}); check again on a quiet machine"
        return not_measured(f"speed-{part}", note).model_copy(
            update={"measured": f"{ratio.value:.3f} x float", "limit": f"{limit:.3f} x float"}
        )
    return Check(
        name=f"speed-{part}",
        verdict="passed" if ratio.value <= limit else "failed",
        measured=f"{ratio.value:.3f} x float",
        limit=f"{limit:.3f} x float",
        note=f"{spread}; busy machine: {ratio.busy}" if ratio.busy else spread,
        slack=_slack(
            ratio.value,
            limit,
            max((ratio.high - ratio.low) / 2, SPEED_NOISE * ratio.value),
            lambda value: f"{value:.3f} x float",
        ),
    )


def _slack(value: float, limit: float, noise: float, form: Callable[[float], str]) -> str:
    if value > limit or limit - value <= SLACK * noise:
        return ""
    return f"limit could be {form(value + 2 * noise)}"


def _same(name: str, measured: Mapping[str, str], recorded: Mapping[str, str], unit: str) -> Check:
    differences = [
        f"{key} {_difference(measured.get(key), recorded.get(key))}"
        for key in sorted(measured.keys() | recorded.keys())
        if measured.get(key) != recorded.get(key)
    ]
    return Check(
        name=name,
        verdict="failed" if differences else "passed",
        measured=f"{len(differences)} of {len(recorded)} {unit} differ",
        limit="as recorded",
        note=_first_few(differences),
    )


def _difference(measured: str | None, recorded: str | None) -> str:
    if measured is None:
        return "is missing"
    if recorded is None:
        return "is new"
    # A reader learns nothing from two hashes.
    return "was changed" if len(recorded) == HASH else f"was {recorded}, is {measured}"


def _first_few(names: Sequence[str], number: int = 3) -> str:
    more = f" and {len(names) - number} more" if len(names) > number else ""
    return ", ".join(names[:number]) + more
