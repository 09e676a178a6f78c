"""The gate on whisper tiny.en at 4 bits: the good bundle passes, one corrupted scale does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper
from rich.console import Console

from edge_asr_deploy.bundle import MANIFEST, BundleWriter, read_manifest
from edge_asr_deploy.harness.gate import Options, check, update
from tests.real.conftest import Exporter

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]
DECODER = "decoder_model_merged.onnx"


def test_one_corrupted_scale_of_thousands_is_heard(exported: Exporter, data: Path, tmp_path: Path) -> None:
    good, quiet = exported("whisper-tiny.en", 4, 8), Console(quiet=True)
    options = Options(data=[data / "common_voice_en.jsonl"], float_bundle="none", number=6)
    record = tmp_path / "record.json"
    update([good], record, options, quiet)
    assert check([good], record, options, ["speed"], None, quiet).passed
    with BundleWriter(tmp_path / "bad") as writer:
        for path in good.iterdir():
            if path.name != MANIFEST:
                shutil.copyfile(path, writer.folder / path.name)
        model = onnx.load(writer.folder / DECODER)
        scales = next(t for t in model.graph.initializer if t.name.endswith("layers.3/fc2/weight/scales"))
        values = numpy_helper.to_array(scales).copy()
        values[3, 100] *= 1000
        scales.CopyFrom(numpy_helper.from_array(values, scales.name))
        onnx.save(model, writer.folder / DECODER)
        writer.commit(read_manifest(good))
    report = check([tmp_path / "bad"], record, options, ["speed"], None, quiet)
    assert "tokens" in {one.name for one in report.bundles[0].checks if one.verdict == "failed"}
    assert not report.passed
