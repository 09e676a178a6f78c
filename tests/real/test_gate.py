"""The gate on whisper tiny.en at 4 bits: the good bundle passes, one corrupted scale does not."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper
from rich.console import Console

from edge_asr_deploy.harness.gate.gate import check, update
from edge_asr_deploy.harness.gate.options import CheckOptions
from tests.support.fixtures_real import Exporter
from tests.support.gated import DECODER, Gated, edit_graph

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]


def corrupt(model: onnx.ModelProto) -> None:
    """One scale of the last layer becomes a thousand times larger."""
    scales = next(t for t in model.graph.initializer if t.name.endswith("layers.3/fc2/weight/scales"))
    values = numpy_helper.to_array(scales).copy()
    values[3, 100] *= 1000
    scales.CopyFrom(numpy_helper.from_array(values, scales.name))


def test_one_corrupted_scale_of_thousands_is_heard(exported: Exporter, data: Path, tmp_path: Path) -> None:
    good, quiet = exported("whisper-tiny.en", 4, 8), Console(quiet=True)
    record, speech = tmp_path / "record.json", data / "common_voice_en.jsonl"
    options = CheckOptions(baseline=record, data=(speech,), float_bundle="none", number=6, allow_unmeasured=("speed",))
    update([good], options, quiet)
    assert check([good], options).passed
    bad = Gated(good, good, record, data).altered(tmp_path, edit_graph(DECODER, corrupt))
    report = check([bad], options)
    assert "tokens" in {one.name for one in report.bundles[0].checks if one.verdict == "failed"}
    assert not report.passed
