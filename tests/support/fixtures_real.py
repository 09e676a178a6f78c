"""Fixtures: bundles of real checkpoints, exported once for all tests; skipped where weights or speech are missing."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_asr_deploy.bundle.verification import verify
from edge_asr_deploy.checkpoints import resolve
from edge_asr_deploy.errors import UserError

Exporter = Callable[..., Path]


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of speech manifests."""
    value = os.environ.get("EDGE_ASR_DATA")
    if not value:
        pytest.skip("EDGE_ASR_DATA is not set: no real speech")
    return Path(value)


@pytest.fixture(scope="session")
def exported(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Exporter:
    """`exported(model, bits, number, target)`: a bundle, made when first asked for.

    With EDGE_ASR_BUNDLES set, bundles are kept in that folder and used again: the whole table takes hours. Workers of
    one run share theirs.
    """
    pytest.importorskip("optimum.exporters.onnx")

    from edge_asr_deploy.export_options import ExportOptions
    from edge_asr_deploy.pipeline import export

    kept = os.environ.get("EDGE_ASR_BUNDLES")
    base = tmp_path_factory.getbasetemp()
    root = Path(kept) if kept else (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "bundles"
    root.mkdir(exist_ok=True)

    def make(model: str, bits: int, number: int | None = None, target: str | None = None) -> Path:
        try:
            resolve(model)
        except UserError as error:
            pytest.skip(str(error))
        number = None if bits == 32 else number
        folder = root / f"{model}-{'float' if bits == 32 else f'w{bits}'}{f'-{number}' if number else ''}"
        folder = folder if target is None else folder.with_name(f"{folder.name}-{target.replace(',', '-')}")
        with (root / f".{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                export(ExportOptions(model=model, bits=bits, number=number, target=target, output=folder))
        verify(folder)
        return folder

    return make
