"""Tolerances that pass what the gate is there to find are pointed out; they are applied all the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from edge_asr_deploy.errors import Note
from edge_asr_deploy.harness.gate.annotations import github_annotations
from edge_asr_deploy.harness.gate.gate import check, update
from edge_asr_deploy.harness.gate.junit import junit_xml
from edge_asr_deploy.harness.gate.options import CheckOptions
from edge_asr_deploy.harness.gate.tolerances import CEILINGS, Tolerances, excess
from tests.support.gated import Gated


def test_every_tolerance_has_a_ceiling_above_its_default() -> None:
    assert set(CEILINGS) == set(Tolerances.model_fields)
    assert excess(Tolerances(), *CEILINGS) == ""
    for name, ceiling in CEILINGS.items():
        at = Tolerances.model_validate({name: ceiling.value})
        assert excess(at, *CEILINGS) == ""
        above = Tolerances.model_validate({name: 1 if name.startswith("tokens") else 99})
        assert excess(above, *CEILINGS).startswith(f"the tolerance {name}=")


def test_a_record_with_tolerances_of_99_says_what_it_passes(gated: Gated, tmp_path: Path) -> None:
    record = json.loads(gated.baseline.read_text())
    record["tolerances"] = {name: 1 if name.startswith("tokens") else 99 for name in CEILINGS}
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record))
    options = CheckOptions(baseline=path, data=(gated.data,), float_bundle="none", allow_unmeasured=("speed",))
    report = check([gated.bundle], options)
    assert report.passed, "as it was asked for"
    warned = {one.name: one.warning for one in report.bundles[0].checks if "tolerance" in one.warning}
    assert set(warned) == {"size", "tokens", "wer", "runaway", "empty", "speed-encoder", "speed-prompt", "speed-step"}
    assert "wer_absolute=99" in warned["wer"] and "wer_relative=99" in warned["wer"]
    lines = [line for line in github_annotations(report) if line.startswith("::warning") and "tolerance" in line]
    assert len(lines) == len(warned)
    assert "the tolerance size=99" in junit_xml(report)


def test_few_clips_say_what_they_cannot_see(gated: Gated, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    options = CheckOptions(baseline=path, data=(gated.data,), float_bundle="none", number=1, tolerance=("size=99",))
    with pytest.warns(Note) as notes:
        update([gated.bundle], options, Console(quiet=True))
    said = [str(note.message) for note in notes]
    assert any("with 1 clip of" in one and "--number" in one for one in said)
    assert any("size=99" in one for one in said)
    [found] = [one for one in check([gated.bundle], options).bundles[0].checks if one.name == "wer"]
    assert "with 1 clip of" in found.warning
