"""The gate's record: read whole, written whole, tolerances overridden by name."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.harness.evaluation.result import Environment
from edge_asr_deploy.harness.gate.baseline import (
    Baseline,
    Listening,
    PartRatios,
    baseline_path,
    bundle_of,
    read_baseline,
    write_baseline,
)
from edge_asr_deploy.harness.gate.tolerances import Tolerances, override


def record() -> Baseline:
    here = Environment(
        cpu="a CPU",
        machine="x86_64",
        cores=2,
        system="Linux",
        python="3.11",
        onnxruntime="1.32.0",
        edge_asr_deploy="0.1.0",
        governor=None,
        temperature=None,
    )
    return Baseline(
        bundle="tiny-w4",
        bundle_hash="b" * 64,
        family="whisper",
        model="tiny",
        model_sha256="a" * 64,
        created="2025-01-01T00:00:00+00:00",
        environment=here,
        listening=Listening(),
        speech="noise (0)",
        tolerances=Tolerances(),
        onnx_bytes=1000,
        wer=0.1,
        layers={},
        operators={},
        side_files={},
        speed={"a CPU": PartRatios(encoder=0.9, prompt=0.8, step=0.5)},
        clips=[],
    )


def test_what_is_written_is_read_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "baselines" / "tiny-w4.json"
    write_baseline(path, record())
    assert read_baseline(path) == record()
    assert list(path.parent.iterdir()) == [path]


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tiny-w4.json"
    write_baseline(path, record())

    def full(source: object, destination: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="No space left"):
        write_baseline(path, record().model_copy(update={"onnx_bytes": 1}))
    assert read_baseline(path) == record()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"schema_version": 7}, "has schema 7, but this version reads 1"),
        ({"speed": {"a CPU": {"encoder": 1, "prompt": 1}}}, "speed.a CPU.step is broken"),
        ({"listening": {"threads": 0}}, "listening.threads is broken"),
        ({"surplus": 1}, "surplus is broken"),
    ],
)
def test_a_record_that_is_broken_is_named_in_one_line(tmp_path: Path, changes: dict[str, object], named: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(json.dumps({**json.loads(record().model_dump_json()), **changes}))
    with pytest.raises(UserError) as caught:
        read_baseline(path)
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_tolerances_are_overridden_by_name() -> None:
    changed = override(Tolerances(), ["size=0.02", "runaway=3"])
    assert changed == Tolerances(size=0.02, runaway=3)
    for setting in ("weather=1", "size", "size=-1", "size=many", "size=nan", "runaway=0.5", "tokens=2"):
        with pytest.raises(UserError, match="--tolerance"):
            override(Tolerances(), [setting])


def test_a_bundle_is_named_by_its_folder_its_manifest_or_its_record() -> None:
    bundle = Path("exported/tiny")
    for path in (bundle, bundle / "manifest.json", Path("exported/baselines/tiny.json")):
        assert bundle_of(path) == bundle


def test_a_record_lies_beside_the_bundle_unless_it_is_named(tmp_path: Path) -> None:
    bundle = tmp_path / "exported" / "tiny"
    assert baseline_path(bundle, None) == bundle.parent / "baselines" / "tiny.json"
    assert baseline_path(bundle, tmp_path) == tmp_path / "tiny.json"
    assert baseline_path(bundle, tmp_path / "other.json") == tmp_path / "other.json"
