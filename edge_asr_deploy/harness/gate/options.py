"""The options of the gate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from edge_asr_deploy.options import Option
from edge_asr_deploy.runtime.options import parse_audio_context


@dataclass(frozen=True)
class CheckOptions:
    """How to check bundles against their records, or how to measure new records.

    `only_bundles` is what the pre-commit hook asks for. `number` and the options after it only concern new records: a
    check transcribes with the settings of its record.
    """

    baseline: Annotated[
        Path | None,
        Option("Record to compare with, or a folder of NAME.json. Default: `baselines` beside the bundle."),
    ] = None
    float_bundle: Annotated[
        str,
        Option(
            "Float bundle for the speed ratio; `auto` finds it beside BUNDLE, `none` leaves speed out.", name="--float"
        ),
    ] = "auto"
    data: Annotated[
        tuple[Path, ...], Option("JSONL manifest with the record's clips; may be given several times.")
    ] = ()
    tolerance: Annotated[
        tuple[str, ...], Option("Override one tolerance of the record: wer_absolute=0.02. May be repeated.")
    ] = ()
    allow_unmeasured: Annotated[
        tuple[str, ...],
        Option("Allow this check (or all of `speed`) to be not measured. May be repeated.", metavar="CHECK"),
    ] = ()
    only_bundles: Annotated[
        bool,
        Option(
            "Pass over files that belong to no bundle, such as a web app's manifest.json: for lists of changed files.",
            switch=True,
        ),
    ] = False
    junit: Annotated[Path | None, Option("Write the checks to this file as JUnit XML.", metavar="FILE")] = None
    number: Annotated[int, Option("Of a new record: number of clips.", least=1)] = 40
    threads: Annotated[int | None, Option("Of a new record: threads within an operator.", least=1)] = None
    accuracy_level: Annotated[
        int | None, Option("Of a new record: accuracy level of the low-bit MatMul.", least=0, most=4)
    ] = None
    audio_context: Annotated[
        str | None, Option("Of a new record: full, auto, or seconds after the clip for Whisper's encoder.")
    ] = None
    language: Annotated[str | None, Option("Of a new record: language of the speech.")] = None

    @property
    def listening(self) -> dict[str, Any]:
        """Those transcription settings for a new record that were given: keys of `Listening`.

        UserError for an invalid audio context.
        """
        given = {"threads": self.threads, "accuracy_level": self.accuracy_level, "language": self.language}
        listening: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if self.audio_context is not None:
            listening["audio_context"] = parse_audio_context(self.audio_context)
        return listening
