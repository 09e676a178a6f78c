"""Tiny random models, exported by Optimum as they are, and noise that stands for speech."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_asr_deploy.runtime.audio.reading import read_audio
from tests.support import voice as synthetic
from tests.support.exported import Exported, export, write_bundle


@pytest.fixture(scope="session")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export("whisper", tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="session")
def free_whisper(whisper: Exported, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The same Whisper with the graphs of an export, whose encoder takes windows of any length."""
    from edge_asr_deploy.recipe.document import float_recipe
    from tests.support.graphs import build

    folder = tmp_path_factory.mktemp("free")
    build(whisper.model, float_recipe("whisper"), [], folder)
    graphs = {path.name: path.read_bytes() for path in folder.glob("*.onnx")}
    return Exported(whisper.model, write_bundle(folder / "bundle", whisper.bundle, graphs))


@pytest.fixture(scope="session")
def moonshine(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export("moonshine", tmp_path_factory.mktemp("moonshine"))


@pytest.fixture
def noise() -> Callable[..., NDArray[np.float32]]:
    """Samples (16_000 * seconds,) that no two seeds share."""

    def make(seconds: float, seed: int = 0) -> NDArray[np.float32]:
        return (np.random.default_rng(seed).normal(size=round(16_000 * seconds)) * 0.1).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def voice() -> Callable[..., NDArray[np.float32]]:
    """Samples (16_000 * seconds,) that are taken for speech; no two seeds share them."""
    return synthetic.voice


@pytest.fixture(scope="session")
def real_speech() -> list[NDArray[np.float32]]:
    """A clip of every kind below EDGE_ASR_DATA."""
    root = os.environ.get("EDGE_ASR_DATA")
    if not root:
        pytest.skip("EDGE_ASR_DATA is not set: no real speech")
    folders = sorted(path for path in Path(root).iterdir() if path.is_dir())
    return [read_audio(clip) for folder in folders for clip in sorted(folder.glob("*.flac"))[:2]]
