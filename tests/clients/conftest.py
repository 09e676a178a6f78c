"""Real bundles in the form that this processor computes exactly, and real clips."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_asr_deploy.corpora.utterance import Utterance
from tests.support.clients import short_clips
from tests.support.exact_bundles import exact_here
from tests.support.fixtures_real import data, exported

__all__ = ["data", "exported"]


@pytest.fixture(scope="session")
def clips(data: Path) -> list[Utterance]:
    """Twenty short clips."""
    return short_clips(data)


@pytest.fixture(scope="session")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """A bundle as engines must get it where this processor's int8 kernel saturates."""
    return lambda bundle: exact_here(bundle, tmp_path_factory.mktemp("exact"))
