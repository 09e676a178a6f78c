"""One server process for all tests that do not stop it, on a small random Whisper that knows English and German."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.exported import export
from tests.support.serving import Served, serving


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Whisper that says something to noise."""
    for package in ("starlette", "uvicorn", "python_multipart", "wyoming", "zeroconf"):
        pytest.importorskip(package)
    return export("whisper", tmp_path_factory.mktemp("served bundle")).bundle


@pytest.fixture(scope="session")
def served(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    options = ("--openai", "0", "--wyoming", "0", "--largest", "20", "--longest", "600")
    with serving(bundle, tmp_path_factory.mktemp("served"), *options) as one:
        yield one
