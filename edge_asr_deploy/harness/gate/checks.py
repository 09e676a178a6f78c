"""The gate's verdicts: pure functions from what was measured and what is allowed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field

from edge_asr_deploy.harness.evaluation.bootstrap import difference_interval
from edge_asr_deploy.harness.evaluation.result import Accuracy
from edge_asr_deploy.harness.gate.relative_speed import Ratio

if TYPE_CHECKING:
    # Needs onnx, which tables of results do without.
    from edge_asr_deploy.harness.gate.facts import Duplicate

Verdict = Literal["passed", "failed", "not measured"]
NAMES = (
    "files",
    "side-files",
    "layers",
    "operators",
    "kernels",
    "dequantize",
    "stored-once",
    "size",
    "tokens",
    "wer",
    "runaway",
    "empty",
    "speed-encoder",
    "speed-prompt",
    "speed-step",
)
MB = 1_000_000
# A limit this many times the noise above what was measured lets through what could be noticed.
SLACK = 4
# What differs between two good runs although no interval of one run shows it.
SIZE_NOISE = 0.005
SPEED_NOISE = 0.03
WORDS_NOISE = 2
HASH = 64


class Check(BaseModel):
    """One check: what was measured, what is allowed, and the verdict. `note` says why, or what to do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    verdict: Verdict
    measured: str = ""
    limit: str = ""
    note: str = ""
    slack: str = Field("", description="set where the limit is far above what noise needs")


class BundleReport(BaseModel):
    """All checks of one bundle; the paths are as the user gave them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: str
    baseline: str
    checks: list[Check]


class Report(BaseModel):
    """What `edge-deploy check --json` says. `allowed`: names of checks that may be "not measured"."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allowed: list[str]
    bundles: list[BundleReport]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """True when no check stands in the way."""
        return not any(self.blocks(check) for bundle in self.bundles for check in bundle.checks)

    def blocks(self, check: Check) -> bool:
        """True for a check that failed, or that was not measured although it was not allowed to be so."""
        return check.verdict == "failed" or (check.verdict == "not measured" and check.name not in self.allowed)


def not_measured(name: str, note: str) -> Check:
    """A check that could not be made, and why. That is never a pass."""
    return Check(name=name, verdict="not measured", note=note)


def check_files(damage: str | None, files: int) -> Check:
    """Every byte is what the manifest says; `damage` is what is not."""
    if damage:
        return Check(name="files", verdict="failed", measured="damaged", limit="as in the manifest", note=damage)
    return Check(name="files", verdict="passed", measured=f"{files} files intact", limit="as in the manifest")


def check_side_files(found: Mapping[str, str], recorded: Mapping[str, str]) -> Check:
    """Tokenizer and configuration are the record's, byte for byte."""
    return _same("side-files", found, recorded, "files")


def check_layers(found: Mapping[str, str], recorded: Mapping[str, str]) -> Check:
    """Every weight matrix is stored as in the record: a layer left in float shows here when the manifest admits it."""
    return _same("layers", found, recorded, "layers")


def check_operators(
    found: Mapping[str, Mapping[str, int]], recorded: Mapping[str, Mapping[str, int]], is_same_software: bool
) -> Check:
    """The optimized graphs have the record's operators, file by file.

    Another onnxruntime or architecture fuses differently: then a difference says nothing about the bundle.
    """
    flat, wanted = (
        {f"{file}: {kind}": str(number) for file, kinds in counts.items() for kind, number in kinds.items()}
        for counts in (found, recorded)
    )
    check = _same("operators", flat, wanted, "counts")
    if check.verdict == "failed" and not is_same_software and found.keys() == recorded.keys():
        note = f"another onnxruntime or architecture than the record's optimizes otherwise ({check.note})"
        return check.model_copy(update={"verdict": "not measured", "note": note})
    return check


def check_kernels(found: Mapping[str, int], wanted: Mapping[str, int]) -> Check:
    """Every integer matrix of the manifest runs in a low-bit kernel; the counts are by file."""
    missing = {file: wanted[file] - found.get(file, 0) for file in wanted if found.get(file, 0) < wanted[file]}
    note = "; ".join(f"{file}: {number} integer matrices run in float" for file, number in missing.items())
    return Check(
        name="kernels",
        verdict="failed" if missing else "passed",
        measured=f"{sum(found.values())} low-bit kernels",
        limit=f"at least {sum(wanted.values())}",
        note=note,
    )


def check_dequantize(survivors: Sequence[str]) -> Check:
    """No DequantizeLinear of a matrix survives the optimization; `survivors` are their names."""
    return Check(
        name="dequantize",
        verdict="failed" if survivors else "passed",
        measured=f"{len(survivors)} expanded matrices",
        limit="0",
        note=_some(survivors),
    )


def check_stored_once(duplicates: Sequence[Duplicate]) -> Check:
    """No weight is stored twice, in one file or across files."""
    wasted = sum(duplicate.wasted for duplicate in duplicates)
    largest = sorted(duplicates, key=lambda duplicate: -duplicate.wasted)
    return Check(
        name="stored-once",
        verdict="failed" if duplicates else "passed",
        measured=f"{wasted} bytes twice",
        limit="0 bytes",
        note=_some([" = ".join(duplicate.places) for duplicate in largest]),
    )


def check_size(size: int, recorded: int, tolerance: float) -> Check:
    """Bytes of the ONNX files; `tolerance` is the growth allowed."""
    limit = recorded * (1 + tolerance)
    return Check(
        name="size",
        verdict="passed" if size <= limit else "failed",
        measured=f"{size / MB:.3f} MB",
        limit=f"{limit / MB:.3f} MB",
        note=f"record: {recorded / MB:.3f} MB",
        slack=_slack(size, limit, SIZE_NOISE * recorded, lambda value: f"{value / MB:.3f} MB"),
    )


def check_tokens(found: Sequence[str], recorded: Sequence[str], ids: Sequence[str], tolerance: float) -> Check:
    """Tokens of every clip, in the order of `ids`; `tolerance` is the share of clips that may differ."""
    other = [clip for clip, ours, theirs in zip(ids, found, recorded, strict=True) if ours != theirs]
    allowed = int(tolerance * len(ids))
    return Check(
        name="tokens",
        verdict="passed" if len(other) <= allowed else "failed",
        measured=f"{len(other)} of {len(ids)} clips differ",
        limit=f"{allowed} clips",
        note=_some(other),
    )


def check_wer(ours: Accuracy, recorded: Accuracy, absolute: float, relative: float) -> Check:
    """Rise of the WER on the same clips, against the larger of an absolute and a relative tolerance.

    A rise beyond the limit whose paired 95 % interval includes zero is not measured: these clips cannot tell it from
    chance, and that is no pass.
    """
    low, high = difference_interval(
        [row.errors for row in ours.rows], [row.errors for row in recorded.rows], [row.words for row in ours.rows]
    )
    rise = ours.pooled.wer - recorded.pooled.wer
    limit = max(absolute, relative * recorded.pooled.wer)
    noise = max((high - low) / 2, WORDS_NOISE / ours.pooled.words)
    note = f"record {recorded.pooled.wer:.2%}, now {ours.pooled.wer:.2%}; rise {low:+.2%} to {high:+.2%}"
    verdict: Verdict = "passed" if rise <= limit else "failed" if low > 0 else "not measured"
    if verdict == "not measured":
        note += f": {len(ours.rows)} clips cannot tell it from chance, record more with --number"
    return Check(
        name="wer",
        verdict=verdict,
        measured=f"{rise:+.2%}",
        limit=f"{limit:+.2%}",
        note=note,
        slack=_slack(rise, limit, noise, lambda value: f"{value:+.2%}"),
    )


def check_count(name: str, found: int, recorded: int, tolerance: int) -> Check:
    """Clips that went wrong as a whole: `runaway` or `empty`."""
    limit = recorded + tolerance
    return Check(
        name=name,
        verdict="passed" if found <= limit else "failed",
        measured=f"{found} clips",
        limit=f"{limit} clips",
        note=f"record: {recorded}",
    )


def check_speed(part: str, ratio: Ratio, limit: float) -> Check:
    """Processor time as a ratio to the float bundle's, measured in the same run."""
    return Check(
        name=f"speed-{part}",
        verdict="passed" if ratio.value <= limit else "failed",
        measured=f"{ratio.value:.3f} x float",
        limit=f"{limit:.3f} x float",
        note=f"{ratio.low:.3f} to {ratio.high:.3f} in {ratio.rounds} rounds",
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


def _same(name: str, found: Mapping[str, str], recorded: Mapping[str, str], what: str) -> Check:
    differences = [
        f"{key} {_difference(found.get(key), recorded.get(key))}"
        for key in sorted(found.keys() | recorded.keys())
        if found.get(key) != recorded.get(key)
    ]
    return Check(
        name=name,
        verdict="failed" if differences else "passed",
        measured=f"{len(differences)} of {len(recorded)} {what} differ",
        limit="as recorded",
        note=_some(differences),
    )


def _difference(found: str | None, recorded: str | None) -> str:
    if found is None:
        return "is missing"
    if recorded is None:
        return "is new"
    # A hash says nothing to a reader.
    return "was changed" if len(recorded) == HASH else f"was {recorded}, is {found}"


def _some(names: Sequence[str], number: int = 3) -> str:
    more = f" and {len(names) - number} more" if len(names) > number else ""
    return ", ".join(names[:number]) + more
